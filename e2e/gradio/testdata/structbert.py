"""A sentiment service as people run it: Flask, under gunicorn, around a model in
PyTorch of the size of BERT-base. Its weights are random: what it says means
nothing, what it costs is real."""

import os

import torch
from flask import Flask, jsonify, request
from transformers import BertConfig, BertForSequenceClassification

torch.set_num_threads(1)
torch.manual_seed(1)
config = BertConfig(num_labels=2)
model = BertForSequenceClassification(config).eval()
app = Flask(__name__)


def classify(text):
    ids = torch.tensor([[101, *(ord(c) % 20000 + 1000 for c in text[:126]), 102]])
    with torch.inference_mode():
        scores = torch.softmax(model(ids).logits[0], -1)
    best = int(scores.argmax())
    return ("negative", "positive")[best], float(scores[best])


@app.post("/predict")
def predict():
    body = request.get_json(silent=True) or {}
    if not body.get("text"):
        return jsonify(error="No text provided"), 400
    label, score = classify(body["text"])
    answer = jsonify(id=body.get("id"), text=body["text"], label=label, score=score)
    answer.headers["X-Node"] = os.environ["NODE"]
    return answer


@app.get("/health")
def health():
    classify("好")
    return jsonify(status="healthy", model_loaded=True)
