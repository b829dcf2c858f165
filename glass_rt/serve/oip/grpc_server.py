"""The Open Inference Protocol over gRPC, on the event loop of the service that it asks.

The server has no methods beside the protocol's own six; others are answered `UNIMPLEMENTED` by gRPC itself.
All are registered as if their request were a stream, which is the same on the wire: so the API key is compared, and
the queue looked at, before a message is received, and the message is looked at before it is parsed. gRPC does not say
how large a message will be: as many are received at once as would fit into `queue_bytes` if all were of `max_body`, and
who waits longer than TURN_S for those before is refused. Probes wait for nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter
from typing import Any

from glass_rt.errors import BackendError, GlassError, MissingDependency, UsageError, first_line
from glass_rt.serve.api_keys import api_key_of, check_api_key
from glass_rt.serve.http.status import CLIENT_GONE, headers_of, status_of
from glass_rt.serve.oip.grpc_message import message_from_tensors, request_from_message
from glass_rt.serve.oip.protobuf_limits import check_message
from glass_rt.serve.oip.protocol import VERSION, describe, model_name
from glass_rt.serve.oip.request import check_model, infer
from glass_rt.serve.oip.rest import EXTENSIONS, SERVER
from glass_rt.serve.refusals import BodyTooSlow, Overloaded, UnknownModel
from glass_rt.serve.request_id import request_id_of
from glass_rt.serve.server import NotListening
from glass_rt.serve.service import Service
from glass_rt.version import __version__

try:
    import grpc
    import grpc.aio
    from google.protobuf.message import DecodeError
    from tritonclient.grpc import service_pb2 as pb
except (ImportError, RuntimeError):  # RuntimeError: tritonclient's, where grpcio is missing
    raise MissingDependency("tritonclient[grpc]", "grpc", "glass-rt serve --grpc-port") from None

SERVICE = "inference.GRPCInferenceService"
FLUSH_S = 5.0
TURN_S = 1.0  # for other messages to arrive before one's own is received
CALLS_PER_IMAGE = 4  # calls open at once for each image of the queue
MAX_WORDS = 1000  # of an error: clients take 8 kB of trailers, in which it stands encoded
SMALL = 4096  # bytes of a message that asks for no inference
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
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
request_log = logging.getLogger("glass_rt.serve.requests")


@asynccontextmanager
async def grpc_server(service: Service, host: str, port: int) -> AsyncIterator[int]:
    """Serves while the block runs, and gives the port (the one chosen, for port 0).

    When the block is left the service should have drained (`Service.drain`): what is under way then has FLUSH_S to
    reach its client. Raises NotListening.
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
        self._images, self._questions = asyncio.Semaphore(at_once), asyncio.Semaphore(at_once)  # being received
        self._calls = 0

    def handlers(self) -> Any:
        """What a grpc.aio server is given."""
        methods = {
            "ServerLive": self._probe("ServerLive", self.server_live),
            "ServerReady": self._probe("ServerReady", self.server_ready),
            "ModelReady": self._plain("ModelReady", pb.ModelReadyRequest, self.model_ready),
            "ServerMetadata": self._plain("ServerMetadata", pb.ServerMetadataRequest, self.server_metadata),
            "ModelMetadata": self._plain("ModelMetadata", pb.ModelMetadataRequest, self.model_metadata),
            "ModelInfer": self._handler("ModelInfer", self._infer),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def server_live(self) -> Any:
        """Whether the process is worth keeping."""
        return pb.ServerLiveResponse(live=self._service.live)

    def server_ready(self) -> Any:
        """Whether requests should be sent here."""
        return pb.ServerReadyResponse(ready=self._service.ready)

    def model_ready(self, message: Any) -> Any:
        """Whether the model can be asked: it is here, and its server is ready. An unknown one is not ready."""
        try:
            check_model(self._service.manifest, message.name, message.version)
        except UnknownModel:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=self._service.ready)

    def server_metadata(self, _: Any) -> Any:
        """What this server is."""
        return pb.ServerMetadataResponse(name=SERVER, version=__version__, extensions=EXTENSIONS)

    def model_metadata(self, message: Any) -> Any:
        """The model's tensors."""
        check_model(self._service.manifest, message.name, message.version)
        return pb.ModelMetadataResponse(**describe(self._service.manifest).to_json())

    async def model_infer(self, data: bytes) -> Any:
        """Judges images. A request is answered whole: one image that cannot be judged fails it."""
        check_message(data, pb.ModelInferRequest.DESCRIPTOR)
        message = _parsed(pb.ModelInferRequest, data)
        manifest = self._service.manifest
        check_model(manifest, message.model_name, message.model_version)
        request = request_from_message(message)
        answer = pb.ModelInferResponse(model_name=model_name(manifest), model_version=VERSION)
        return message_from_tensors(answer, request, await infer(self._service, request))

    def _probe(self, name: str, method: Callable[[], Any]) -> Any:
        """A method that needs no API key, and whose message, which is empty, is not even received."""

        async def answer(_: AsyncIterator[bytes], __: Context) -> Any:
            return method()

        return self._handler(name, answer)

    def _plain(self, name: str, kind: Any, method: Callable[[Any], Any]) -> Any:
        """A method that answers at once."""

        async def answer(messages: AsyncIterator[bytes], context: Context) -> Any:
            with self._let_in(context):
                data = await self._received(messages, self._questions)
                if len(data) > SMALL:
                    raise UsageError(f"the message has {len(data)} bytes; this method takes at most {SMALL}")
                return method(_parsed(kind, data))

        return self._handler(name, answer)

    async def _infer(self, messages: AsyncIterator[bytes], context: Context) -> Any:
        with self._let_in(context), self._service.request() as hold:
            data = await self._received(messages, self._images)
            hold.hold(len(data))
            return await self.model_infer(data)

    async def _received(self, messages: AsyncIterator[bytes], turns: asyncio.Semaphore) -> bytes:
        seconds = self._service.settings.body_timeout_s
        try:
            return await asyncio.wait_for(_next(messages, turns), seconds)
        except asyncio.TimeoutError:
            raise BodyTooSlow(f"the message did not arrive within {seconds:g} s") from None
        except StopAsyncIteration:
            raise UsageError("the call brought no message") from None

    def _handler(self, name: str, answer: Callable[[AsyncIterator[bytes], Context], Awaitable[Any]]) -> Any:
        async def handle(messages: AsyncIterator[bytes], context: Context) -> Any:
            return await self._answered(name, context, answer(messages, context))

        return grpc.stream_unary_rpc_method_handler(
            handle, response_serializer=lambda response: response.SerializeToString()
        )

    @contextmanager
    def _let_in(self, context: Context) -> Iterator[None]:
        """One of the calls that may be open at once. Raises Unauthorized, Overloaded."""
        settings = self._service.settings
        check_api_key(api_key_of(_headers(context)), settings.api_keys)
        if self._calls >= CALLS_PER_IMAGE * settings.queue_images:
            raise Overloaded(f"{self._calls} calls are open: try again later", retry_after_s=1)
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    async def _answered(self, method: str, context: Context, answer: Awaitable[Any]) -> Any:
        """The answer, or the error's code and words; named, logged and counted like any other request."""
        began, status = perf_counter(), CLIENT_GONE
        request_id = request_id_of(_headers(context))
        try:
            response = await answer
            context.set_trailing_metadata((("x-request-id", request_id),))
            status = 200
            return response
        except Exception as error:
            if not isinstance(error, GlassError):
                log.exception("unexpected error", extra={"fields": {"request_id": request_id}})
                error = BackendError(f"unexpected error: {first_line(error)}")
            status = status_of(error)
            metadata = {"x-request-id": request_id, **headers_of(error)}
            code = CODES.get(status, grpc.StatusCode.INTERNAL)
            await context.abort(
                code, str(error)[:MAX_WORDS], tuple((name.lower(), value) for name, value in metadata.items())
            )
        finally:
            seconds = perf_counter() - began
            self._service.metrics.request_answered("GRPC", method, status, seconds)
            fields = {
                "request_id": request_id,
                "method": "GRPC",
                "path": method,
                "status": status,
                "ms": round(1e3 * seconds, 2),
                "client": context.peer(),
            }
            request_log.info("request", extra={"fields": fields})


async def _next(messages: AsyncIterator[bytes], turns: asyncio.Semaphore) -> bytes:
    try:
        await asyncio.wait_for(turns.acquire(), TURN_S)
    except asyncio.TimeoutError:
        raise Overloaded("as many messages as fit are being received: try again later", retry_after_s=1) from None
    try:
        return await anext(messages)
    finally:
        turns.release()


def _parsed(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise UsageError(f"the message is not a {kind.DESCRIPTOR.name}") from None


def _headers(context: Context) -> list[tuple[bytes, bytes]]:
    """The call's metadata, as the headers that they were."""
    return [
        (name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in context.invocation_metadata() or ()
    ]
