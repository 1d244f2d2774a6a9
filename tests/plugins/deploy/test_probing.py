"""Known answers whose images are too many for one request are asked one by one."""

import json
from typing import Any

import httpx
import pytest

from tasks.contract import ModelIdentity, Publication, PublishedAnswer
from trusted_retraining.serving import probing
from trusted_retraining.serving.plan import Endpoint
from trusted_retraining.serving.probing import NoAnswer, Prober

PUBLICATION = Publication(
    model=ModelIdentity(name="demo", version="1", digest="d"),
    model_uri="s3://bucket/models/demo/1",
    known_answers=[
        PublishedAnswer(image_id=str(n), image_b64="AAAA", probabilities=[0.5, 0.5])
        for n in range(3)
    ],
    tolerance=1e-3,
)


def prober(monkeypatch: pytest.MonkeyPatch, at_most: int) -> tuple[Prober, list[int]]:
    asked: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        count = len(json.loads(request.content)["instances"])
        asked.append(count)
        if count > at_most:
            return httpx.Response(400, json={"error": "send them in several requests"})
        rows = [{"probabilities": [0.5, 0.5]}] * count
        return httpx.Response(200, json={"model_digest": "d", "predictions": rows})

    def client(**_: Any) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(answer))

    monkeypatch.setattr(probing, "http_client", client)
    monkeypatch.setattr(probing, "PATIENCE_SECONDS", 0.0)
    return Prober(PUBLICATION, Endpoint(url="http://demo", headers={})), asked


def test_all_at_once_where_the_server_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asking, asked = prober(monkeypatch, 8)
    assert asking.ask_all() == 0
    assert asked == [3]


def test_one_by_one_where_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    asking, asked = prober(monkeypatch, 1)
    assert asking.ask_all() == 0
    assert asked == [3, 1, 1, 1]


def test_an_image_that_is_refused_alone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asking, asked = prober(monkeypatch, 0)
    with pytest.raises(NoAnswer, match=r"status 400: .*several requests"):
        asking.ask_all()
    assert asked == [3, 1]
