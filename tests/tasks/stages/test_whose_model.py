"""A registered model belongs to one pipeline, whatever pipeline files ask for it."""

from pathlib import Path

import pytest

from tasks import registry
from tasks.contract import BadInput, Champion
from tasks.environment import Environment
from tasks.registry_owner import foreign_model
from tasks.runner import run_stage
from tasks.spec import Pipeline
from tasks.stages import load_stage
from tests.tasks.stages.champions import FILE, PIPELINE, Night, bless, client_of, place_at

pytestmark = pytest.mark.usefixtures("made_up_evidence")

OTHER = Pipeline.model_validate(FILE | {"name": "newcomer", "deploy": {"model_name": "films"}})


def test_another_pipeline_s_model_is_refused_and_its_registry_left_as_it_was(
    night: Night, place: Environment, champion: Champion
) -> None:
    run = night("second", champion=champion)
    verdict = bless(run, place, OTHER)
    assert not verdict.blessed and verdict.model.version is None
    assert verdict.reasons[-1].startswith(
        "registered model 'films' belongs to pipeline 'films' (tag 'pipeline' of version 1), not "
        "to 'newcomer': give a deploy.model_name of its own"
    )
    run_stage(load_stage("reject"), pipeline=OTHER, run=run, environment=place)
    (version,) = client_of(place).search_model_versions("name = 'films'")
    assert (str(version.version), version.tags["pipeline"]) == ("1", "films")
    # the pipeline whose it is goes on
    assert bless(night("third", champion=champion), place).model.version == "2"


def test_a_newcomer_called_like_the_model_does_not_get_it_either(
    night: Night, place: Environment
) -> None:
    older = Pipeline.model_validate(FILE | {"name": "chest", "deploy": {"model_name": "films"}})
    assert bless(night("first"), place, older).blessed
    # never deployed, so there is no champion to go by
    assert "belongs to pipeline 'chest'" in bless(night("second"), place, PIPELINE).reasons[-1]
    assert bless(night("third"), place, older).blessed


@pytest.mark.parametrize("stage", ["deploy", "publish"])
def test_what_became_another_s_after_the_verdict_is_not_put_into_service(
    night: Night, place: Environment, stage: str
) -> None:
    run = night("first")
    assert bless(run, place).may_serve
    client_of(place).set_model_version_tag("films", "1", "pipeline", "newcomer")
    with pytest.raises(BadInput, match="belongs to pipeline 'newcomer'"):
        run_stage(load_stage(stage), pipeline=PIPELINE, run=run, environment=place)
    assert registry.champion_identity(place, "films") is None


def test_a_pipeline_that_was_renamed_goes_on_when_a_person_has_set_the_tag(
    night: Night, place: Environment, champion: Champion
) -> None:
    client_of(place).set_model_version_tag("films", "1", "pipeline", "newcomer")
    assert foreign_model(place, OTHER) == ""
    assert "set that tag to 'films' in MLflow" in foreign_model(place, PIPELINE)


def test_a_registry_that_does_not_tell_and_none_at_all_stand_in_nobody_s_way(
    night: Night, place: Environment, champion: Champion, tmp_path: Path
) -> None:
    client_of(place).delete_model_version_tag("films", "1", "pipeline")
    assert foreign_model(place, OTHER) == ""
    assert foreign_model(place_at(tmp_path / "empty"), OTHER) == ""
    object.__setattr__(place, "mlflow_uri", "")
    assert foreign_model(place, OTHER) == ""
