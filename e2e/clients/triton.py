"""Asks both models by NVIDIA's Triton client: tritonclient.http.

usage: triton.py HOST:PORT   with the models at /ner and /sentiment
"""
import json
import sys

import numpy
import tritonclient.http as triton


def texts(*values, shape=None):
    return numpy.array([v.encode() for v in values], dtype=numpy.object_).reshape(shape or [len(values)])


def infer(client, model, data, binary, outputs=None, **options):
    tensor = triton.InferInput("text", list(data.shape), "BYTES")
    tensor.set_data_from_numpy(data, binary_data=binary)
    wanted = outputs and [triton.InferRequestedOutput(name, binary_data=binary) for name in outputs]
    return client.infer(model, [tensor], outputs=wanted, **options)


def spans(element):
    return [(e["type"], e["span"], e["start"], e["end"]) for e in json.loads(element)]


with triton.InferenceServerClient(sys.argv[1] + "/ner") as client:
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("ner")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["name"] == "caddy-infer"
    metadata = client.get_model_metadata("ner")
    (version,) = metadata["versions"]
    assert client.is_model_ready("ner", version) and not client.is_model_ready("ner", "0")
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}], metadata
    for binary in (True, False):  # True is the client's own default
        for shape in (None, [2, 1]):
            result = infer(client, "ner", texts("马云在杭州", "今天天气很好", shape=shape), binary, request_id="7")
            entities = result.as_numpy("entities")
            assert entities.shape == (2,), entities.shape
            assert spans(entities[0]) == [("PER", "马云", 0, 2), ("LOC", "杭州", 3, 5)], entities
            assert spans(entities[1]) == [], entities
            response = result.get_response()
            assert response["id"] == "7" and response["model_version"] == version, response
    infer(client, "ner", texts("马云"), True, model_version=version, timeout=5_000_000)
    for bad in (texts(""), texts(*["x"] * 1000)):
        try:
            infer(client, "ner", bad, True)
        except triton.InferenceServerException as e:
            print("refused:", e.message())
        else:
            raise AssertionError(f"{len(bad)} texts of which one is empty, or too many, were accepted")

with triton.InferenceServerClient(sys.argv[1] + "/sentiment") as client:
    result = infer(client, "sentiment", texts("这个产品太棒了!", "太差了"), True)
    labels, score, scores = (result.as_numpy(name) for name in ("label", "score", "scores"))
    print(labels, score, scores)
    assert labels.tolist() == ["positive", "negative"] and score.shape == (2,) and scores.shape == (2, 2), result.get_response()
    assert numpy.allclose(scores.max(axis=1), score) and numpy.allclose(scores.sum(axis=1), 1, atol=1e-5)
    result = infer(client, "sentiment", texts("太差了"), False, outputs=["label"])
    assert result.as_numpy("label").tolist() == ["negative"] and result.as_numpy("scores") is None
