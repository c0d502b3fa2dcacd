"""ModelService."""

from __future__ import annotations

from typing import Any

import grpc

from bridge.core.contract import InvalidRequestError, ModelNotFoundError, Service
from bridge.grpc_server.call_context import current_caller
from bridge.grpc_server.wire.encode import encode_model
from bridge.v1 import model_pb2 as pb
from bridge.v1 import model_pb2_grpc as pb_grpc


class ModelServicer(pb_grpc.ModelServiceServicer):
    """Answers from the core's list of models."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def ListModels(
        self, request: pb.ListModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListModelsResponse:
        """List the models that the caller may use."""
        models = await self._service.models(current_caller())
        return pb.ListModelsResponse(models=[encode_model(model) for model in models])

    async def GetModel(
        self, request: pb.GetModelRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetModelResponse:
        if not request.id:
            raise InvalidRequestError("id is required: a model from ListModels.", field="id")
        try:
            model = await self._service.model(request.id, current_caller())
        except ModelNotFoundError as error:
            # The core's error names the field of a completion.
            raise ModelNotFoundError(error.message, field="id") from None
        return pb.GetModelResponse(model=encode_model(model))
