"""The viewer through viser's own protocol: what a browser is sent, and what it may ask for.

test_view_browser.py does the same in a browser where there is one. All of this needs viser.
"""

import socket
import time
import urllib.request

import numpy as np
import pytest

viser = pytest.importorskip("viser", reason="needs viser (extra view)")
websockets = pytest.importorskip("websockets")

from mofa_nvdr.apply import view_server  # noqa: E402
from mofa_nvdr.apply.view_files import FaceLibrary  # noqa: E402
from mofa_nvdr.apply.view_server import FaceServer, is_own_page, serve  # noqa: E402
from tests.helpers.viewed_faces import SIZE, viewed_folder  # noqa: E402
from tests.helpers.viser_client import ViserClient  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:Queued a .* on a closed connection:UserWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return viewed_folder(tmp_path_factory.mktemp("view"))


@pytest.fixture(scope="module")
def server(folder):
    server = FaceServer(FaceLibrary(folder, size=SIZE))
    yield server
    server.stop()


@pytest.fixture
def window(server):
    """Opens windows that show their pictures; the client, and the server's side as its `window`."""
    opened = []

    def call(**options):
        before = server.windows
        client = ViserClient(server.port, **options)
        opened.append(client)
        (client.window,) = client.until(lambda: [w for w in server.windows if w not in before])
        client.until(lambda: client.window.at_rest)
        client.read()
        return client

    yield call
    for client in opened:
        client.close()
    end = time.monotonic() + 60
    while set(server.windows) & {client.window for client in opened}:
        assert time.monotonic() < end
        time.sleep(0.05)


def _moved(client, label, value):
    """The picture at rest after a control was moved."""
    before = len(client.pictures())
    client.move(label, value)
    client.until(lambda: len(client.pictures()) > before and client.window.at_rest)
    client.read()
    return _shown(client)


def _shown(client):
    return client.pictures()[-1].astype(int)


class TestWindow:
    def test_opens(self, window, server):
        client = window()
        sheet = client.pictures()[-1]
        assert sheet.shape[1] == 3 * SIZE and sheet[: 2 * SIZE].std() > 20
        (mesh,) = client.of("MeshMessage")
        vertices = np.frombuffer(mesh["props"]["vertices"], np.float32).reshape(-1, 3)
        assert len(vertices) == 24 * 24 and np.abs(vertices).max() < 2
        for label in ("azimuth, °", "strength", "yaw, °", "jawOpen", "1: 1", "mode 1", "Face"):
            assert client.element(label)

    def test_a_slider_moves_the_picture(self, window):
        client = window()
        still = _shown(client)
        turned = _moved(client, "yaw, °", 40)
        gap = np.abs(turned - still)
        height = len(still) // 2
        assert gap[:SIZE, :SIZE].max() < 20  # the photograph: JPEG's noise alone
        assert gap[height : height + SIZE].mean() > 5
        meshes = [m for m in client.of("SceneNodeUpdateMessage") if "vertices" in m["updates"]]
        assert meshes and meshes[-1]["name"] == "/face"

    def test_light_moves_no_mesh(self, window):
        client = window()
        client.messages.clear()
        _moved(client, "strength", 2)
        assert not client.of("SceneNodeUpdateMessage")
        _moved(client, "jawOpen", 1)
        assert client.of("SceneNodeUpdateMessage")

    def test_the_sun_is_dragged(self, window, server):
        client = window()
        view = client.window.view
        drag = {
            "name": "/sun", "phase": "update", "instance_index": None, "button": "left", "modifier": None,
            "start_position": (0.0, 0.0, 1.0), "start_screen_pos": (0.5, 0.5),
            "end_position": (1.45, 0.0, 0.0), "end_screen_pos": (0.9, 0.5),
        }  # fmt: skip
        owner = client.of("IcosphereMessage")[-1]["owner"]
        for phase in ("start", "update", "end"):
            client.send("SceneNodeDragMessage", **{**drag, "phase": phase, "owner": owner})
        client.until(lambda: view.controls.values["strength"] > 0)
        client.read(1.0)
        assert view.controls.sun().tolist() == pytest.approx([1, 0, 0], abs=0.01)
        # The slider follows.
        name = client.element("azimuth, °")
        moved = [
            m["updates"].get("value") for m in client.of("GuiUpdateMessage") if m["uuid"] == name
        ]
        assert moved[-1] == pytest.approx(90, abs=0.6)

    def test_back_to_the_photograph(self, window, server):
        client = window()
        view = client.window.view
        _moved(client, "yaw, °", 30)
        assert view.controls.values["yaw"] == 30
        client.move("Back to the photograph", True)
        client.until(lambda: view.controls.values["yaw"] == 0)

    def test_another_face(self, window, server):
        client = window()
        client.move("Face", "b.npz")
        client.until(lambda: client.window.view.face.name == "b.npz" and client.window.at_rest)

    @pytest.mark.parametrize(
        ("what", "head"), [("picture", b"\x89PNG"), (".npz", b"PK"), (".glb", b"glTF")]
    )
    def test_save(self, window, what, head):
        client = window()
        client.move("Save", what)
        (start,) = client.until(lambda: client.of("FileTransferStartDownload"))
        parts = client.until(lambda: client.of("FileTransferPart"))
        assert start["filename"] == f"a_view.{what.strip('.').replace('picture', 'png')}"
        assert bytes(parts[0]["content"]).startswith(head)

    def test_mistakes_are_told_in_the_window(self, window, monkeypatch, server):
        client = window()

        def fails(name):
            raise ValueError("b.npz: damaged\nin two lines")

        monkeypatch.setattr(server.library, "open", fails)
        client.move("Face", "b.npz")
        told = client.until(lambda: [m for m in client.messages if "Notification" in m["type"]])
        assert "b.npz: damaged in two lines" in str(told[0])


class TestTwoWindows:
    def test_do_not_disturb_each_other(self, window, server):
        one, other = window(), window()
        still, drawn = _shown(one), one.window.drawn
        assert np.abs(_moved(other, "yaw, °", 40) - still).mean() > 2
        one.read()
        assert np.array_equal(_shown(one), still) and one.window.drawn == drawn
        assert one.window.view.controls.values["yaw"] == 0

    def test_a_window_that_closes_leaves_the_other(self, window, server):
        one, other = window(), window()
        still = _shown(other)
        one.close()
        other.until(lambda: one.window not in server.windows)
        assert (_moved(other, "strength", 2) != still).any()

    def test_another_windows_slider_cannot_be_moved(self, window, server):
        one, other = window(), window()
        other.send("GuiUpdateMessage", uuid=one.element("yaw, °"), updates={"value": 40.0})
        other.read(1.0)
        assert all(c.window.view.controls.values["yaw"] == 0 for c in (one, other))


class TestNothingOutside:
    @pytest.mark.parametrize(
        "path",
        [
            "/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/a.npz", "/faces/a.npz",
            "//etc/passwd", "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/..\\secret.txt",
        ],
    )  # fmt: skip
    def test_paths(self, server, path):
        """Over HTTP there are viser's own pages, and neither the folder nor what is around it."""
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as link:
            link.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
            answer = link.recv(4096)
        assert b" 404 " in answer.split(b"\r\n")[0]
        assert b"nobody may read this" not in answer and b"root:" not in answer

    def test_its_page(self, server):
        page = urllib.request.urlopen(server.url, timeout=60)
        assert page.status == 200 and b"<html" in page.read().lower()

    @pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "../../b.npz"])
    def test_names_of_faces(self, window, server, name):
        client = window()
        before = client.window.view
        client.move("Face", name)
        told = client.until(lambda: [m for m in client.messages if "Notification" in m["type"]])
        assert "no face" in str(told[0]) and client.window.view is before

    def test_no_tunnel(self, window, monkeypatch):
        def opened(*_):
            raise AssertionError("a tunnel was opened")

        monkeypatch.setattr(viser._viser, "ViserTunnel", opened)
        client = window()
        client.send("ShareUrlRequest")
        client.read(1.0)
        assert not any(m["type"] == "ShareUrlUpdated" and m["share_url"] for m in client.messages)

    @pytest.mark.parametrize(
        ("origin", "host"),
        [("http://evil.example", ""), ("", ""), (None, "evil.example:{port}")],
        ids=["another site", "no page", "a name made to lead here"],
    )
    def test_pages_of_others(self, server, capsys, origin, host):
        """See nothing: no pictures, no names."""
        number = len(server.windows)
        client = ViserClient(server.port, origin, host.format(port=server.port))
        client.read(2.0)
        assert not client.pictures() and not client.of("GuiSliderMessage", "GuiDropdownMessage")
        assert len(server.windows) == number
        assert "a page of another site was refused" in capsys.readouterr().err
        client.close()


@pytest.mark.parametrize(
    ("listening", "host", "origin", "own"),
    [
        ("127.0.0.1", "127.0.0.1:8080", "http://127.0.0.1:8080", True),
        ("127.0.0.1", "localhost:9000", "http://localhost:9000", True),  # a port led here by ssh
        ("::1", "[::1]:8080", "http://[::1]:8080", True),
        ("127.0.0.1", "127.0.0.1:8080", "http://localhost:8080", False),
        ("127.0.0.1", "a.example:8080", "http://a.example:8080", False),
        ("0.0.0.0", "10.0.0.7:8080", "http://10.0.0.7:8080", True),
        ("0.0.0.0", "10.0.0.7:8080", "http://a.example", False),
        ("0.0.0.0", "", "", False),
    ],
)
def test_is_own_page(listening, host, origin, own):
    assert is_own_page(listening, host, origin) is own


class TestAddress:
    def test_the_next_port_that_is_free(self, folder, server):
        other = FaceServer(FaceLibrary(folder / "a.npz", size=SIZE))
        try:
            assert other.port != server.port and other.host == "127.0.0.1"
            assert other.url == f"http://127.0.0.1:{other.port}"
        finally:
            other.stop()

    def test_a_port_that_is_taken(self, folder, server):
        with pytest.raises(ValueError, match=f"--port {server.port}: another program listens"):
            FaceServer(FaceLibrary(folder), port=server.port)

    def test_loopback_alone(self, server):
        assert not server._viser.get_host().startswith("0.")

    @pytest.mark.parametrize(
        ("host", "port", "text"),
        [
            ("no such name", 0, "--host no such name: no such address"),
            ("203.0.113.7", 0, "--host 203.0.113.7: no address of this machine"),
            ("127.0.0.1", 70000, "--port is 70000, expected 0 to 65535"),
        ],
    )
    def test_mistakes(self, folder, host, port, text):
        with pytest.raises(ValueError, match=text):
            FaceServer(FaceLibrary(folder), host, port)


class TestServe:
    @pytest.fixture
    def stopped(self, monkeypatch):
        """Ctrl-C as soon as it waits."""

        def sleep(seconds):
            raise KeyboardInterrupt

        monkeypatch.setattr(view_server.time, "sleep", sleep)

    def test_a_line_says_where(self, folder, stopped, capsys):
        serve(folder / "a.npz", size=SIZE)
        out, err = capsys.readouterr()
        assert f"{folder / 'a.npz'}: http://127.0.0.1:" in out and "(Ctrl-C stops)" in out
        assert len(out.splitlines()) == 1 and err == ""

    def test_a_warning_where_others_can_look(self, folder, stopped, capsys):
        serve(folder, host="0.0.0.0", size=SIZE)
        out, err = capsys.readouterr()
        assert ", 4 faces: http://0.0.0.0:" in out
        assert err.startswith("warning: --host 0.0.0.0: whoever reaches this address can look")

    def test_size(self, folder):
        with pytest.raises(ValueError, match="--size is 9, expected 64 to 1024 pixels"):
            serve(folder, size=9)

    def test_a_file_that_cannot_be_opened(self, tmp_path):
        with pytest.raises(ValueError, match="no.npz: no such file"):
            serve(tmp_path / "no.npz")
