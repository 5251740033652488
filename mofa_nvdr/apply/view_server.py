"""The viewer in a browser, by viser: `mofa-nvdr view`. Windows of their own, one for each browser's.

What is shown is made by `viewing`; here controls become sliders, pictures messages, and clicks downloads. A
slider's callback notes its value and wakes the window's thread, which draws the newest state and no other.
"""

from __future__ import annotations

import contextlib
import io
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
import viser

from mofa_nvdr.apply.view_controls import EXPRESSION, LIGHT, MODES, POSE, SUN
from mofa_nvdr.apply.view_files import FaceLibrary
from mofa_nvdr.apply.viewing import FaceView
from mofa_nvdr.system.notes import one_line, say

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_FIRST_PORT, _PORTS = 8080, 100
_AT_REST = 0.25  # s without a change, after which pictures are drawn finely
_QUALITY = 90  # of JPEG
_PANEL = 760  # px, width of the pictures
_MM = 0.01  # units of the scene
_SUN_AT = 1.45  # units of the scene from the head's middle
_FIRST_SUN = 0.8  # strength of a sun that is dragged for the first time
_SAVED = {"picture": "png", ".npz": "npz", ".glb": "glb"}
_OPEN = (SUN, POSE, EXPRESSION)  # groups whose sliders are shown at first


class FaceServer:
    """Serves faces to browsers until it is stopped.

    Args:
        library: what may be opened.
        host: address to listen at.
        port: to listen at; 0: 8080, or the next that is free.

    Attributes:
        host, port: where it listens.

    Raises:
        ValueError: the address is none of this machine's, or the port is taken.
    """

    def __init__(self, library: FaceLibrary, host: str = "127.0.0.1", port: int = 0) -> None:
        self.library, self.host = library, host
        self.drawing = threading.Lock()  # windows draw in turn
        self._windows: dict[int, _Window] = {}
        # What is drawn for a window that closes meanwhile goes nowhere, which is no news.
        warnings.filterwarnings("ignore", "Queued a .* on a closed connection", UserWarning)
        wanted = _free_port(host, port)
        with _silently():
            self._viser = _NoTunnel(host=host, port=wanted, label="mofa-nvdr", verbose=False)
        self.port = self._viser.get_port()
        if port and self.port != port:
            self.stop()
            raise ValueError(_taken(port))
        self._viser.scene.set_up_direction("+y")
        self._viser.initial_camera.up = (0.0, 1.0, 0.0)
        self._viser.initial_camera.position = (0.0, 0.2, 5.5)
        self._viser.initial_camera.look_at = (0.0, 0.0, 0.0)
        self._viser.on_client_connect(self._connected)
        self._viser.on_client_disconnect(self._left)

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def windows(self) -> list[_Window]:
        """The open windows, in the order in which they came."""
        return [self._windows[number] for number in sorted(self._windows)]

    def stop(self) -> None:
        """Close all windows and stop listening."""
        for window in self.windows:
            window.close()
        with _silently():
            self._viser.stop()

    def _connected(self, client: viser.ClientHandle) -> None:
        if not self._is_ours(client):
            say("note: a page of another site was refused", sys.stderr)
            return
        window = _Window(self, client)
        self._windows[client.client_id] = window
        window.start()

    async def _left(self, client: viser.ClientHandle) -> None:
        window = self._windows.pop(client.client_id, None)
        if window is not None:
            window.close()

    def _is_ours(self, client: viser.ClientHandle) -> bool:
        """Whether a connection comes from a page of this server: browsers let any site's page try.

        viser does not ask; what a connection began with is not in its interface. Where another version keeps
        it elsewhere, nobody is let in.
        """
        try:
            connections: Any = self._viser._websock_server._live_connections
            headers = connections[client.client_id].request.headers
        except (AttributeError, LookupError):  # of several headers too
            return False
        return is_own_page(self.host, headers.get("Host", ""), headers.get("Origin", ""))


def is_own_page(listening: str, host: str, origin: str) -> bool:
    """Whether a request's Host and Origin are those of a page that this server gave.

    A page of another site has its own Origin. One whose name was made to lead here has both: at a loopback
    address only names of this machine count.

    Args:
        listening: the address that is listened at.
        host: of the request: name:port.
        origin: of the request: http://name:port.
    """
    if not host or urlsplit(origin).netloc != host:
        return False
    name = urlsplit(f"//{host}").hostname or ""
    return listening not in _LOOPBACK or name in _LOOPBACK


def serve(
    source: str | Path,
    photo: str = "",
    host: str = "127.0.0.1",
    port: int = 0,
    size: int = 240,
    face_model: str = "",
) -> None:
    """Serve a face, or those of a folder, until Ctrl-C.

    Args:
        source: as FaceLibrary takes it, like `photo`, `face_model` and `size`.
        photo: the photograph of an .npz.
        host: address to listen at.
        port: 0: 8080 or the next that is free.
        size: px of a picture's side.
        face_model: empty: the one that a file names.

    Raises:
        ValueError, RuntimeError: as FaceLibrary and FaceServer; one line.
    """
    if not 64 <= size <= 1024:
        raise ValueError(f"--size is {size}, expected 64 to 1024 pixels")
    library = FaceLibrary(source, photo, face_model, size)
    if len(library.names) == 1:  # mistakes are said before a browser is opened
        library.open(library.names[0])
    server = FaceServer(library, host, port)
    if host not in _LOOPBACK:
        say(
            f"warning: --host {host}: whoever reaches this address can look at these faces; there is no "
            "password",
            sys.stderr,
        )
    count = len(library.names)
    what = f"{source}" + (f", {count} faces" if count > 1 else "")
    say(f"{what}: {server.url} (Ctrl-C stops)")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()


class _NoTunnel(viser.ViserServer):
    """A server that no browser can publish: viser's own would open a tunnel when one asks."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        return None


class _Window:
    """One browser's window: its face, sliders and pictures, and a thread that draws."""

    def __init__(self, server: FaceServer, client: viser.ClientHandle) -> None:
        self._server, self._client = server, client
        self._state = threading.RLock()  # of the view, which one thread at a time reads and moves
        self._moved: dict[str, float] = {}  # controls that wait to be moved
        self._moving = threading.Lock()
        self._changed, self._closed = threading.Event(), False
        self._thread = threading.Thread(target=self._draw_all, daemon=True)
        self._sliders: dict[str, viser.GuiSliderHandle[float]] = {}
        self._folders: list[viser.GuiFolderHandle] = []
        self._following = False  # sliders are moved by the program
        self._form: Any = None  # what the mesh was last made of
        self.view: FaceView | None = None
        self.drawn = 0
        """How many pictures were sent."""
        self.at_rest = False
        """What is shown is drawn finely, and nothing has been moved since."""

    def start(self) -> None:
        """Build the window and begin to draw."""
        client, library = self._client, self._server.library
        client.gui.configure_theme(
            show_logo=False, show_share_button=False, dark_mode=True, control_width="large"
        )
        panel = client.gui.add_panel()
        with panel.add_tab("Pictures"):
            blank = np.full((2, 3, 3), 33, np.uint8)
            self._image = client.gui.add_image(blank, format="jpeg", jpeg_quality=_QUALITY)
            save = client.gui.add_button_group("Save", tuple(_SAVED))
            save.on_click(lambda _: self._save(_SAVED[save.value]))
        panel.dock_left()
        panel.set_width(_PANEL)
        client.gui.main_panel.dock_right()
        if len(library.names) > 1:
            choice = client.gui.add_dropdown("Face", library.names)
            choice.on_update(lambda _: self._open(choice.value))
        back = client.gui.add_button("Back to the photograph")
        back.on_click(lambda _: self._reset())
        self._open(library.names[0])
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._changed.set()

    def set(self, name: str, value: float) -> None:
        """Move a control and have it drawn."""
        with self._moving:
            self._moved[name] = value
        self._redraw()

    def _redraw(self) -> None:
        self.at_rest = False
        self._changed.set()

    def _open(self, name: str) -> None:
        with self._told():
            with self._server.drawing:
                face = self._server.library.open(name)
            with self._state:
                self.view = FaceView(face)
                self._make_sliders(self.view)
                self._make_scene(self.view)
            self._redraw()

    def _make_sliders(self, view: FaceView) -> None:
        for folder in self._folders:
            folder.remove()
        gui = self._client.gui
        groups: dict[str, list[Any]] = {}
        for control in view.controls.controls.values():
            groups.setdefault(control.group, []).append(control)
        self._folders, self._sliders = [], {}
        order = [
            SUN,
            LIGHT,
            POSE,
            *(g for g in groups if g not in (SUN, LIGHT, POSE, *MODES.values())),
        ]
        for group in (*order, *(g for g in MODES.values() if g in groups)):
            folder = gui.add_folder(group, expand_by_default=group in _OPEN)
            self._folders.append(folder)
            with folder:
                for c in groups[group]:
                    slider = gui.add_slider(
                        c.label, c.low, c.high, c.step, float(c.start), hint=c.hint or None
                    )
                    slider.on_update(self._mover(c.name))
                    self._sliders[c.name] = slider

    def _mover(self, name: str) -> Any:
        def moved(event: viser.GuiEvent[Any]) -> None:
            if not self._following:
                with self._told():
                    self.set(name, float(event.target.value))

        return moved

    def _make_scene(self, view: FaceView) -> None:
        scene = self._client.scene
        scene.configure_default_lights(enabled=False)
        scene.add_light_ambient("/around", intensity=1.2)
        triangles = view.face.model.triangles.numpy()
        vertices = view.mesh() * _MM
        self._mesh = scene.add_mesh_simple(
            "/face", vertices, triangles, color=view.mesh_color(), side="double"
        )
        self._lamp = scene.add_light_directional("/lamp", intensity=3.0)
        self._sun = scene.add_icosphere("/sun", radius=0.12, color=(255, 214, 90))

        @self._sun.on_drag
        async def _(event: viser.SceneNodeDragEvent[Any]) -> None:
            with self._told():
                self._drag(np.array(event.end_position))

        self._place_sun(view)

    def _drag(self, place: np.ndarray) -> None:
        """Move the sun to where the pointer is, as the window's camera sees it."""
        camera = self._client.camera
        back = _unit(np.array(camera.position) - np.array(camera.look_at))
        right = _unit(np.cross(np.array(camera.up_direction), back))
        axes = np.stack([right, np.cross(back, right), back])
        x, y, _ = axes @ place / _SUN_AT
        with self._state:
            if self.view is None:
                return
            controls = self.view.controls
            controls.drag_sun(float(x), float(y), torch.from_numpy(axes))
            if not controls.values["strength"]:
                controls.set("strength", _FIRST_SUN)
            self._follow(self.view)
        self._redraw()

    def _follow(self, view: FaceView) -> None:
        """Move the sliders to where the controls are."""
        self._following = True
        try:
            for name, slider in self._sliders.items():
                slider.value = float(view.controls.values[name])
        finally:
            self._following = False

    def _reset(self) -> None:
        with self._state:
            if self.view is None:
                return
            self.view.controls.reset()
            self._follow(self.view)
        self._redraw()

    def _place_sun(self, view: FaceView) -> None:
        place = view.controls.sun().numpy() * _SUN_AT
        self._sun.position = tuple(place)
        self._lamp.position = tuple(place)

    def _draw_all(self) -> None:
        """Draw the newest state whenever it has changed, and finely when it rests."""
        fine = True  # the state is drawn finely
        while not self._closed:
            changed = self._changed.wait(None if fine else _AT_REST)
            self._changed.clear()
            if self._closed:
                return
            with self._told():
                self._draw(fine=not changed)
                if not changed and self.view is not None:
                    with self._server.drawing:
                        self.view.face.prepare()
            fine = not changed
            self.at_rest = fine and not self._changed.is_set()

    def _draw(self, fine: bool) -> None:
        with self._server.drawing, self._state:
            view = self.view
            if view is None:
                return
            with self._moving:
                moved, self._moved = self._moved, {}
            for name, value in moved.items():
                view.controls.set(name, value)
            sheet = view.sheet(fine)
            form = id(view), view.controls.key(POSE, *view.controls.form_groups)
            mesh = view.mesh() * _MM if form != self._form else None
            self._form = form
        self._image.image = sheet
        if mesh is not None:
            self._mesh.vertices = mesh.astype(np.float32)
        self._place_sun(view)
        self._client.flush()
        self.drawn += 1

    def _save(self, ending: str) -> None:
        with self._told():
            with self._server.drawing, self._state:
                view = self.view
                if view is None:
                    return
                makers = {
                    "png": view.saved_picture,
                    "npz": lambda: view.parameters().npz_bytes(),
                    "glb": view.saved_mesh,
                }
                content = makers[ending]()
                name = f"{Path(view.face.name).stem}_view.{ending}"
            self._client.send_file_download(name, content, save_immediately=True)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Mistakes are told in the window, in one line."""
        try:
            yield
        except (ValueError, OSError, RuntimeError) as error:
            text = one_line(str(error) or type(error).__name__)
            self._client.add_notification("This did not work", text, auto_close_seconds=15)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def _free_port(host: str, port: int) -> int:
    """A port that can be listened at: the given one, or the first free one."""
    if not 0 <= port <= 65535:
        raise ValueError(f"--port is {port}, expected 0 to 65535")
    ports = [port] if port else [*range(_FIRST_PORT, _FIRST_PORT + _PORTS), 0]
    for candidate in ports:
        try:
            family = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0][0]
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, candidate))
                number: int = probe.getsockname()[1]
                return number
        except socket.gaierror:
            raise ValueError(f"--host {host}: no such address") from None
        except PermissionError:
            raise ValueError(f"--port {port}: this user may not listen there") from None
        except OSError as error:
            if error.errno == 99 or "assign" in str(error):  # EADDRNOTAVAIL
                raise ValueError(f"--host {host}: no address of this machine") from None
    raise ValueError(_taken(port))


def _taken(port: int) -> str:
    return f"--port {port}: another program listens there; give another one, or leave it out"


@contextlib.contextmanager
def _silently() -> Iterator[None]:
    """Without viser's own lines on stdout: ours says where it is."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
