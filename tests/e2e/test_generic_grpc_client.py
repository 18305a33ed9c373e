"""A gRPC client that knows nothing of hashfleet can find out what there is, and call it."""

from __future__ import annotations

import grpc
import grpc.aio
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from .conftest import House


def test_reflection_tells_every_service_and_how_to_call_it(house: House) -> None:
    with grpc.insecure_channel(house.grpc) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {"hashfleet.v1.JobService", "hashfleet.v1.FleetService", "hashfleet.v1.WorkerService"} <= set(
            database.get_services()
        )
        method = DescriptorPool(database).FindServiceByName("hashfleet.v1.JobService").methods_by_name["SubmitJob"]
        request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        call = channel.unary_unary(
            "/hashfleet.v1.JobService/SubmitJob",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        spec = {"action": "ACTION_BUILD", "entityId": "5-1", "playerId": "1-11"}
        answer = MessageToDict(call(ParseDict({"spec": spec}, request()), timeout=10))
        assert answer["created"] and answer["job"]["state"] == "JOB_STATE_QUEUED"


def test_health_says_serving(house: House) -> None:
    with grpc.insecure_channel(house.grpc) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "hashfleet.v1.JobService", "hashfleet.v1.WorkerService"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
