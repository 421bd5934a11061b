"""Asks both models by Hugging Face's own client: huggingface_hub.InferenceClient.

usage: huggingface.py HOST:PORT   with the models at /ner and /sentiment
"""
import sys

from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

base = "http://" + sys.argv[1]

client = InferenceClient(model=base + "/ner")
found = client.token_classification("马云在杭州阿里巴巴总部发表演讲。")
print(found)
assert [(e.entity_group, e.word, e.start, e.end) for e in found][:2] == [("PER", "马云", 0, 2), ("LOC", "杭州", 3, 5)], found
assert all(0 < e.score <= 1 for e in found)
found = client.token_classification("马云在杭州", ignore_labels=["PER"])
assert [e.word for e in found] == ["杭州"], found
try:
    client.token_classification("")
except HfHubHTTPError as e:
    print("refused:", e)
else:
    raise AssertionError("no text was accepted")

client = InferenceClient(model=base + "/sentiment")
ranked = client.text_classification("这个产品太棒了!")
print(ranked)
assert [r.label for r in ranked] == ["positive", "negative"] and ranked[0].score > 0.9, ranked
ranked = client.text_classification("太差了", top_k=1)
assert [r.label for r in ranked] == ["negative"], ranked
