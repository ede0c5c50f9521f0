"""The deployment files agree with the code."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path
from typing import Any

import pytest

from streamproc.config import WorkerConfig
from streamproc.leases.lease import Lease, renewed
from streamproc.leases.stores import open_store
from streamproc.plugins import load_processors
from streamproc.position import TRIM_HORIZON
from streamproc.settings import load_config
from streamproc.testing import LocalKinesis
from tests import dynamodb_servers
from tests.checkpoints.faulty_proxy import FaultyProxy
from tests.worker.group import Group

DEPLOY = Path(__file__).parents[2] / "deploy"


def policy_actions(service: str, policy: str = "iam-policy.json") -> set[str]:
    statements = json.loads((DEPLOY / policy).read_text())["Statement"]
    assert all(statement["Effect"] == "Allow" for statement in statements)
    assert all("*" not in str(statement["Resource"]) for statement in statements)
    actions = {action for statement in statements for action in statement["Action"]}
    return {action for action in actions if action.startswith(f"{service}:")}


async def test_the_policy_allows_exactly_what_a_worker_calls(
    local_kinesis: LocalKinesis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: set[str] = set()
    answer = local_kinesis._respond  # over HTTP only: what this test itself does is not meant

    def record(request: Any) -> Any:
        called.add(request.headers["x-amz-target"].replace("Kinesis_20131202.", "kinesis:"))
        return answer(request)

    monkeypatch.setattr(local_kinesis, "_respond", record)
    async with Group(local_kinesis, redis_url, shards=1) as group:
        local_kinesis.core.call("CreateStream", StreamName="booked", ShardCount=1)
        group.start(
            outbox__sink="kinesis",
            outbox__options__stream="booked",
            outbox__options__region="us-east-1",
            outbox__options__endpoint_url=local_kinesis.endpoint_url,
        )
        group.publish_entries(range(10), ["account"])
        # A reshard makes it look at everything it ever looks at.
        group.split(group.shard_ids()[0])
        await group.until(lambda: len(group.shard_ids()) == 2)
        group.publish_entries(range(10, 20), ["account"])
        await group.until_booked({"account": 20})
        await group.until(lambda: "kinesis:PutRecords" in called)
    assert called == policy_actions("kinesis")


async def test_the_fan_out_policy_allows_what_fan_out_adds(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: set[str] = set()
    async with LocalKinesis(push=True) as kinesis:
        assert kinesis.push is not None
        answer = kinesis._respond

        def record(request: Any) -> Any:
            called.add(request.headers["x-amz-target"].replace("Kinesis_20131202.", "kinesis:"))
            return answer(request)

        monkeypatch.setattr(kinesis, "_respond", record)
        bundle = tmp_path / "ca.pem"
        bundle.write_bytes(kinesis.push.ca_pem)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
        async with Group(kinesis, redis_url, shards=1) as group:
            group.publish_entries(range(10), ["account"])
            group.start(read__mode="fan-out", read__push_endpoint_url=kinesis.push.endpoint_url)
            await group.until_booked({"account": 10})
    # The port that the records came from serves SubscribeToShard and nothing else.
    added = called | {"kinesis:SubscribeToShard"}
    assert added - policy_actions("kinesis") == policy_actions("kinesis", "iam-policy-fan-out.json")


async def test_the_policy_allows_exactly_what_the_dynamodb_store_calls(tmp_path: Path) -> None:
    lease = Lease(key="shard", checkpoint=TRIM_HORIZON)
    with dynamodb_servers.running("moto", tmp_path) as endpoint:
        async with FaultyProxy(endpoint) as proxy:
            store = await open_store(
                "dynamodb", "group", {"endpoint_url": proxy.url, "timeout": 30.0}
            )
            await store.create(lease)
            await store.list()
            await store.replace(lease, renewed(lease))
            await store.delete(renewed(lease))
            await store.replace(lease, renewed(lease))  # A row that is gone is looked for.
            await store.aclose()
    assert {f"dynamodb:{name}" for name in proxy.requests} == policy_actions("dynamodb")


def test_the_orchestrators_wait_longer_than_a_worker_drains() -> None:
    drain = WorkerConfig().drain_timeout
    task = json.loads((DEPLOY / "ecs-task-definition.json").read_text())
    assert all(c["stopTimeout"] > drain for c in task["containerDefinitions"])
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(DEPLOY / "streamproc.service")
    assert unit.getfloat("Service", "TimeoutStopSec") > drain
    assert unit.get("Service", "KillSignal") == "SIGTERM"


def test_the_image_runs_the_worker_itself_and_without_root() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    last = {line.split()[0]: line for line in lines if line and not line.startswith("#")}
    # Shell form would put sh between the signal and the worker.
    assert json.loads(last["ENTRYPOINT"].removeprefix("ENTRYPOINT")) == ["streamproc"]
    assert json.loads(last["CMD"].removeprefix("CMD"))[0] == "run"
    assert last["USER"].split()[1] not in ("root", "0")
    assert re.search(r'CMD \["python".*/live', last["HEALTHCHECK"])


def test_the_example_configuration_and_environment_are_understood() -> None:
    config = load_config(DEPLOY / "streamproc.toml", {})
    assert [processor.name for processor in load_processors(config.processors)] == [
        "fraud",
        "inventory",
    ]
    container = json.loads((DEPLOY / "ecs-task-definition.json").read_text())[
        "containerDefinitions"
    ][0]
    environment = {setting["name"]: setting["value"] for setting in container["environment"]}
    settings = load_config(None, environment)
    assert (settings.group, settings.stream.name) == ("fraud-prod", "STREAM_NAME")
    assert load_processors(settings.processors)[0].name == "fraud"
