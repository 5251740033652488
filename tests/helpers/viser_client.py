"""A window of the viewer without a browser: speaks viser's protocol over its websocket."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import cv2
import msgspec
import numpy as np
import viser
import zstandard
from websockets.sync.client import ClientConnection, connect

_WAIT = 120.0  # s, on busy machines


class ViserClient:
    """Connects as viser's page does, and keeps what the server sends.

    Attributes:
        messages: all that came, in order: dicts with their "type".
        closed: the server has hung up.
    """

    def __init__(self, port: int, origin: str | None = None, host: str = "") -> None:
        netloc = host or f"127.0.0.1:{port}"
        self._socket: ClientConnection = connect(
            f"ws://{netloc}",
            sock=socket.create_connection(("127.0.0.1", port)),
            subprotocols=[f"viser-v{viser.__version__}"],  # type: ignore[list-item]
            origin=f"http://{netloc}" if origin is None else origin,  # type: ignore[arg-type]
            max_size=None,
        )
        self.messages: list[dict[str, Any]] = []
        self._elements: dict[str, str] = {}
        self.send(
            "ViewerCameraMessage",
            wxyz=(1.0, 0.0, 0.0, 0.0),
            position=(0.0, 0.0, 5.5),
            fov=1.0,
            near=0.01,
            far=1000.0,
            image_height=600,
            image_width=800,
            look_at=(0.0, 0.0, 0.0),
            up_direction=(0.0, 1.0, 0.0),
        )

    def close(self) -> None:
        """Close the window."""
        self._socket.close()

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message of a type of viser's."""
        self._socket.send(msgspec.msgpack.encode({"type": kind, **fields}))

    def read(self, seconds: float = 0.5) -> None:
        """Take in what comes until nothing has come for some seconds."""
        while True:
            try:
                self._take(self._socket.recv(timeout=seconds))
            except TimeoutError:
                return

    def until(self, true: Callable[[], Any]) -> Any:
        """Take in messages until something is true of them; what it is."""
        end = time.monotonic() + _WAIT
        while not (value := true()):
            assert time.monotonic() < end, "the server did not answer"
            try:
                self._take(self._socket.recv(timeout=1.0))
            except TimeoutError:
                continue
        return value

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        """The messages of some types."""
        return [message for message in self.messages if message["type"] in kinds]

    def element(self, label: str) -> str:
        """The name that viser gave to the newest element with a label, which must have come."""
        assert label in self._elements, f"no element {label!r}"
        return self._elements[label]

    def move(self, label: str, value: Any) -> None:
        """Move a slider, or choose of a list."""
        self.send("GuiUpdateMessage", uuid=self.element(label), updates={"value": value})

    def pictures(self) -> list[np.ndarray]:
        """The pictures that came, uint8 [H, W, 3]."""
        found = []
        for message in self.of("GuiUpdateMessage"):
            data = message["updates"].get("_data")
            if data is not None:
                pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
                found.append(pixels[..., ::-1])
        return found

    def _take(self, frame: Any) -> None:
        size, compressed = struct.unpack("<QQ", frame[:16])
        inner = zstandard.ZstdDecompressor().decompress(
            frame[16 : 16 + compressed], max_output_size=size
        )
        content = msgspec.msgpack.decode(inner)
        place, buffers = 16 + compressed, []
        for length in content["binaryBufferLengths"]:
            place += -place % 8
            buffers.append(frame[place : place + length])
            place += length
        for message in content["messages"]:
            message = _filled(message, buffers)
            self.messages.append(message)
            label = message.get("props", {}).get("label")
            if label and "uuid" in message:
                self._elements[label] = message["uuid"]


def _filled(value: Any, buffers: list[bytes]) -> Any:
    """A message whose arrays, which travel behind it, are in their places, as bytes."""
    if isinstance(value, dict):
        if "__binary_index" in value:
            return buffers[value["__binary_index"]]
        return {key: _filled(part, buffers) for key, part in value.items()}
    return [_filled(part, buffers) for part in value] if isinstance(value, list) else value
