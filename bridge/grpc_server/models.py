"""ModelService."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final

import grpc

from bridge.core.contract import InvalidRequestError, ModelNotFoundError, Service
from bridge.grpc_server.call_context import current_caller
from bridge.grpc_server.wire.encode import encode_model
from bridge.grpc_server.wire.paging import page_of
from bridge.v1 import model_pb2 as pb
from bridge.v1 import model_pb2_grpc as pb_grpc

_ID: Final = attrgetter("id")


class ModelServicer(pb_grpc.ModelServiceServicer):
    """Answers from the core's list of models."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def ListModels(
        self, request: pb.ListModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListModelsResponse:
        """List the models that the caller may use."""
        models = await self._service.models(current_caller())
        page, following = page_of(models, request.page_size, request.page_token, _ID)
        encoded = [encode_model(model) for model in page]
        return pb.ListModelsResponse(models=encoded, next_page_token=following)

    async def GetModel(
        self, request: pb.GetModelRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetModelResponse:
        if not request.id:
            raise InvalidRequestError("id is required: a model from ListModels.", field="id")
        try:
            model = await self._service.model(request.id, current_caller())
        except ModelNotFoundError as error:
            # The core's error names the field of a completion.
            raise ModelNotFoundError(error.message, model=request.id, field="id") from None
        return pb.GetModelResponse(model=encode_model(model))
