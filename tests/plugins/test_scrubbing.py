"""What looks like credentials is masked, and what does not is left alone."""

import pytest

from trusted_retraining.scrubbing import ScrubbedLog, scrub, scrub_pod

SECRET = "wJalrXUtnFEMI/K7MDENG"  # noqa: S105


@pytest.mark.parametrize(
    "line",
    [
        f"AWS_SECRET_ACCESS_KEY={SECRET}",
        f"aws_secret_access_key: {SECRET}",
        f'{{"aws_session_token": "{SECRET}", "x": 1}}',
        f"GET https://bucket/key?X-Amz-Signature={SECRET}&x=1",
        f"postgresql+psycopg2://mlflow:{SECRET}@db/mlflow",
        f"Authorization: Bearer {SECRET}",
        f"MLFLOW_TRACKING_PASSWORD={SECRET}",
        f"login failed, password='{SECRET}'",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_credentials_are_masked(line: str) -> None:
    assert SECRET not in scrub(line) and "***" in scrub(line)


def test_key_ids_are_masked_wherever_they_are() -> None:
    assert scrub("signed by AKIAIOSFODNN7EXAMPLE") == "signed by ***"


@pytest.mark.parametrize(
    "line",
    [
        "epoch 3: loss 0.31, accuracy 0.88",
        "ingest: reused from s3://bucket/prefix/demo/runs/a/ingest",
        "tokenizer=bert, keys: 12",
        "digest 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "see https://example.org/a@b",
    ],
)
def test_other_lines_are_left_alone(line: str) -> None:
    assert scrub(line) == line


def test_a_logger_masks_lines_arguments_and_errors() -> None:
    written: list[tuple[object, ...]] = []

    class Log:
        name = "own"

        def warning(self, *arguments: object, **_: object) -> None:
            written.append(arguments)

        def log(self, *arguments: object) -> None:
            written.append(arguments)

    log = ScrubbedLog(Log())
    log.warning("password=%s, token=abc", 7)
    log.log(20, "%s", ValueError("token=abc"))
    log.warning("the pod's variables: %s", {"AWS_SECRET_ACCESS_KEY": SECRET})
    log.warning("%(count)d at 100 %%", {"count": 3})
    log.warning("too few: %s %s", "token=abc")
    log.warning("100 %")
    log.warning("%s of %s", {"a": 1}, "b")
    assert written == [
        ("password=***, token=***",),
        (20, "token=***"),
        ("the pod's variables: {'AWS_SECRET_ACCESS_KEY': '***'}",),
        ("3 at 100 %",),
        ("too few: %s %s token=***",),
        ("100 %",),
        ("{'a': 1} of b",),
    ]
    assert log.name == "own"


def test_a_pod_is_told_without_values_that_somebody_else_put_there() -> None:
    env = [{"name": "HOME", "value": "/home/stage"}, {"name": "DB", "value": SECRET}]
    reference = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    pod = {
        "metadata": {"name": "x", "managedFields": [{}]},
        "spec": {
            "initContainers": [{"name": "init", "env": [{"name": "DB", "value": SECRET}]}],
            "containers": [{"name": "stage", "env": [*env, reference]}, {"name": "proxy"}],
        },
    }
    told = scrub_pod(pod, known={"HOME"})
    assert SECRET not in str(told) and SECRET in str(pod)
    assert told["spec"]["containers"][0]["env"][0] == env[0]
    assert told["spec"]["containers"][0]["env"][2] == reference
    assert told["metadata"] == {"name": "x"}
