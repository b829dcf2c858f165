"""The Open Inference Protocol over gRPC, on the event loop of its service.

The server has the protocol's six methods, and of Triton's extensions those that describe the model; gRPC itself
responds with `UNIMPLEMENTED` to others. All are registered as methods whose request is a stream, which has the same
encoding. So the server compares the API key and checks the queue before it receives a message, and checks the message's
structure before it parses it.

gRPC does not say how large a message will be. The server receives as many at once as fit into `queue_bytes` if each has
`max_body` bytes, but at least two, and refuses calls that get no turn in time (see `Turns`). Probes need no turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter
from typing import Any

from glass_rt.errors import BackendError, GlassError, MissingDependency, UsageError, drop_frames, first_line
from glass_rt.serve.api_keys import api_key_of, check_api_key
from glass_rt.serve.http.status import CLIENT_GONE, headers_of, status_of
from glass_rt.serve.oip.description import model_config, model_statistics, repository_index
from glass_rt.serve.oip.grpc_message import message_from_tensors, request_from_message
from glass_rt.serve.oip.protobuf_limits import check_message
from glass_rt.serve.oip.protocol import VERSION, describe, model_name
from glass_rt.serve.oip.request import check_model, infer
from glass_rt.serve.oip.rest import EXTENSIONS, SERVER
from glass_rt.serve.oip.turns import Turns
from glass_rt.serve.refusals import BodyTooSlow, Overloaded, UnknownModel
from glass_rt.serve.request_id import request_id_of
from glass_rt.serve.server import NotListening
from glass_rt.serve.service import Service
from glass_rt.version import __version__

try:
    import grpc
    import grpc.aio
    from google.protobuf.json_format import ParseDict
    from google.protobuf.message import DecodeError
    from tritonclient.grpc import service_pb2 as pb
except (ImportError, RuntimeError):  # RuntimeError: tritonclient's, where grpcio is missing
    raise MissingDependency("tritonclient[grpc]", "grpc", "glass-rt serve --grpc-port") from None

SERVICE = "inference.GRPCInferenceService"
FLUSH_S = 5.0
CALLS_PER_IMAGE = 4  # calls open at once for each image of the queue
MAX_ERROR = 1000  # characters of an error: clients take 8 kB of trailers, which carry it encoded
SMALL = 4096  # bytes of a message of the methods that judge nothing
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}

Context = Any  # grpc.aio.ServicerContext, which ships without types

log = logging.getLogger("glass_rt.serve")
grpc_log = logging.getLogger("grpc._cython.cygrpc")
request_log = logging.getLogger("glass_rt.serve.requests")


@asynccontextmanager
async def grpc_server(service: Service, host: str, port: int) -> AsyncIterator[int]:
    """Serves while the block runs, and gives the port, for port 0 the one that the system chose.

    The service should have drained (`Service.drain`) before the block ends: responses under way then have FLUSH_S to
    reach their clients. Raises NotListening.
    """
    settings = service.settings
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", settings.max_body),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # else two servers would share a port, and each get half of the requests
        ),
    )
    server.add_generic_rpc_handlers((GrpcMethods(service).handlers(),))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        raise NotListening(
            f"cannot listen on {address} for gRPC: it is taken, or none of this machine. Choose another --grpc-port"
        ) from None
    grpc_log.addFilter(_says_more_than_cancelled)
    await server.start()
    log.info("listening", extra={"fields": {"grpc": f"{address.rpartition(':')[0]}:{bound}"}})
    try:
        yield bound
    finally:
        await server.stop(grace=FLUSH_S)


class GrpcMethods:
    """The protocol's methods on one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        settings = service.settings
        at_once = settings.queue_bytes // settings.max_body
        self._infer_turns = Turns(at_once)  # to receive a message with images
        self._metadata_turns = Turns(at_once)  # to receive a message without
        self._calls = 0

    def handlers(self) -> Any:
        """The handlers to register with a grpc.aio server."""
        methods = {
            "ServerLive": self._probe("ServerLive", self.server_live),
            "ServerReady": self._probe("ServerReady", self.server_ready),
            "ModelReady": self._plain("ModelReady", pb.ModelReadyRequest, self.model_ready),
            "ServerMetadata": self._plain("ServerMetadata", pb.ServerMetadataRequest, self.server_metadata),
            "ModelMetadata": self._plain("ModelMetadata", pb.ModelMetadataRequest, self.model_metadata),
            "ModelConfig": self._plain("ModelConfig", pb.ModelConfigRequest, self.model_config),
            "ModelStatistics": self._plain("ModelStatistics", pb.ModelStatisticsRequest, self.model_statistics),
            "RepositoryIndex": self._plain("RepositoryIndex", pb.RepositoryIndexRequest, self.repository_index),
            "ModelInfer": self._handler("ModelInfer", self._infer),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def server_live(self) -> Any:
        """Whether the process is live."""
        return pb.ServerLiveResponse(live=self._service.live)

    def server_ready(self) -> Any:
        """Whether requests should be sent here."""
        return pb.ServerReadyResponse(ready=self._service.ready)

    def model_ready(self, message: Any) -> Any:
        """Whether the server has the model and is ready. An unknown model is not ready."""
        try:
            check_model(self._service.manifest, message.name, message.version)
        except UnknownModel:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=self._service.ready)

    def server_metadata(self, _: Any) -> Any:
        """The server's name, version and extensions."""
        return pb.ServerMetadataResponse(name=SERVER, version=__version__, extensions=EXTENSIONS)

    def model_metadata(self, message: Any) -> Any:
        """The model's tensors."""
        check_model(self._service.manifest, message.name, message.version)
        return pb.ModelMetadataResponse(**describe(self._service.manifest).to_json())

    def model_config(self, message: Any) -> Any:
        """The model's configuration."""
        check_model(self._service.manifest, message.name, message.version)
        return ParseDict({"config": model_config(self._service)}, pb.ModelConfigResponse())

    def model_statistics(self, message: Any) -> Any:
        """How much the model has judged. Without a name, of every model, which is one."""
        if message.name:
            check_model(self._service.manifest, message.name, message.version)
        return ParseDict(model_statistics(self._service), pb.ModelStatisticsResponse())

    def repository_index(self, message: Any) -> Any:
        """The models that there are."""
        models = repository_index(self._service, message.repository_name, ready=message.ready)
        return ParseDict({"models": models}, pb.RepositoryIndexResponse())

    async def model_infer(self, data: bytes) -> Any:
        """Judges images. One image that cannot be judged fails the request."""
        check_message(data, pb.ModelInferRequest.DESCRIPTOR)
        message = _parsed(pb.ModelInferRequest, data)
        manifest = self._service.manifest
        check_model(manifest, message.model_name, message.model_version)
        request = request_from_message(message)
        response = pb.ModelInferResponse(model_name=model_name(manifest), model_version=VERSION)
        return message_from_tensors(response, request, await infer(self._service, request))

    def _probe(self, name: str, method: Callable[[], Any]) -> Any:
        """A method that needs no API key. Its message is empty and is not received."""

        async def respond(_: Context) -> Any:
            return method()

        return self._handler(name, respond)

    def _plain(self, name: str, kind: Any, method: Callable[[Any], Any]) -> Any:
        """A method that judges nothing and waits for no engine."""

        async def respond(context: Context) -> Any:
            with self._admitted(context):
                data = await self._received(context, self._metadata_turns)
                if len(data) > SMALL:
                    raise UsageError(f"the message has {len(data)} bytes; this method takes at most {SMALL}")
                return method(_parsed(kind, data))

        return self._handler(name, respond)

    async def _infer(self, context: Context) -> Any:
        with self._admitted(context), self._service.request() as hold:
            data = await self._received(context, self._infer_turns)
            hold.hold(len(data))
            return await self.model_infer(data)

    async def _received(self, context: Context, turns: Turns) -> bytes:
        seconds = self._service.settings.body_timeout_s
        try:
            data = await asyncio.wait_for(turns.receive(context.peer(), context.read), seconds)
        except asyncio.TimeoutError:
            raise BodyTooSlow(f"the message did not arrive within {seconds:g} s") from None
        if not isinstance(data, bytes):  # grpc.aio.EOF
            raise UsageError("the call brought no message")
        return data

    def _handler(self, name: str, respond: Callable[[Context], Awaitable[Any]]) -> Any:
        async def handle(_: Any, context: Context) -> Any:  # gRPC's iterator of messages would keep the last it gave
            return await self._call(name, context, respond(context))

        return grpc.stream_unary_rpc_method_handler(
            handle, response_serializer=lambda response: response.SerializeToString()
        )

    @contextmanager
    def _admitted(self, context: Context) -> Iterator[None]:
        """Counts a call while the block runs, up to the limit of open calls. Raises Unauthorized, Overloaded."""
        settings = self._service.settings
        check_api_key(api_key_of(_headers(context)), self._service.api_keys)
        if self._calls >= CALLS_PER_IMAGE * settings.queue_images:
            raise Overloaded(f"{self._calls} calls are open: try again later", retry_after_s=1)
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    async def _call(self, method: str, context: Context, responding: Awaitable[Any]) -> Any:
        """The response, or the error's code and message. The call is named, logged and counted like an HTTP request."""
        began, status = perf_counter(), CLIENT_GONE
        request_id = request_id_of(_headers(context))
        try:
            response = await responding
            context.set_trailing_metadata((("x-request-id", request_id),))
            status = 200
            return response
        except Exception as error:
            if context.cancelled():  # of the call itself: no client is left to get a response
                raise asyncio.CancelledError from None
            if not isinstance(error, GlassError):
                log.exception("unexpected error", extra={"fields": {"request_id": request_id}})
                drop_frames(error)
                error = BackendError(f"unexpected error: {first_line(error)}")
            drop_frames(error)
            status = status_of(error)
            metadata = {"x-request-id": request_id, **headers_of(error)}
            code = CODES.get(status, grpc.StatusCode.INTERNAL)
            await context.abort(
                code, str(error)[:MAX_ERROR], tuple((name.lower(), value) for name, value in metadata.items())
            )
        finally:
            seconds = perf_counter() - began
            self._service.metrics.request_done("GRPC", method, status, seconds)
            fields = {
                "request_id": request_id,
                "method": "GRPC",
                "path": method,
                "status": status,
                "ms": round(1e3 * seconds, 2),
                "client": context.peer(),
            }
            request_log.info("request", extra={"fields": fields})


def _says_more_than_cancelled(record: logging.LogRecord) -> bool:
    """False for gRPC's traceback of a response that found its call cancelled."""
    error = record.exc_info[0] if record.exc_info else None
    return error is None or error.__name__ != "ExecuteBatchError"


def _parsed(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise UsageError(f"the message is not a {kind.DESCRIPTOR.name}") from None


def _headers(context: Context) -> list[tuple[bytes, bytes]]:
    """The call's metadata, which are its HTTP headers."""
    return [
        (name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in context.invocation_metadata() or ()
    ]
