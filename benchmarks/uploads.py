"""From a browser's bytes to a visible result, for one user and for many at once.

    python -m benchmarks.uploads [--users 20]

Starts a whole Pacsight with the shipped pneumonia model, warms it with one upload, then hands in
one chest X-ray (PNG) a user: alone several times, then all users at the same moment. The times run
from the first byte sent until the results page shows the answer, and until its DICOM objects are
written and checked; nothing is delivered.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from ledger.database import transaction
from pacsight.waiting import is_listening
from tests.peers.process import free_port, wait_until
from tests.service import Service
from tests.viewer_api.drawn import xray_png
from viewer_api.accounts import add_user

PASSWORD = "correct horse battery"
ALONE = 7
PATIENCE_S = 300.0
LOOK_S = 0.1
"""Pages are told by server-sent events; twenty that ask more often are a load of their own."""


def signed_in(url: str, login: str) -> httpx.Client:
    client = httpx.Client(base_url=url, timeout=PATIENCE_S)
    form = re.search(r'form_token" value="(\w+)"', client.get("/login").text)
    assert form is not None
    data = {"login": login, "password": PASSWORD, "form_token": form[1]}
    assert client.post("/login", data=data).status_code == 303
    token = re.search(r'csrf_token" value="([^"]+)"', client.get("/").text)
    assert token is not None
    client.headers["x-csrf-token"] = token[1]
    return client


def hand_in(client: httpx.Client, picture: bytes) -> tuple[float, float]:
    """Return the seconds until the answer is there, and until everything is done."""
    started = time.perf_counter()
    upload = client.post("/uploads").json()["id"]
    client.put(f"/uploads/{upload}/files?name=chest.png", content=picture).raise_for_status()
    done = client.post(f"/uploads/{upload}/finish", data={"model": "cxr-pneumonia"})
    (study,) = done.raise_for_status().json()["studies"]
    shown = None
    while True:
        state, *counts = client.get(f"/studies/{study}/state").json()["state"].split("/")
        now = time.perf_counter() - started
        if shown is None and counts and counts[-1] != "0":
            shown = now
        if state == "done":
            return shown or now, now
        if now > PATIENCE_S:
            raise TimeoutError(study)
        time.sleep(LOOK_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=20)
    users = parser.parse_args().users
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        service = Service(Path(folder), pacs_port=free_port(), web={"port": port})
        with transaction(service.ledger) as session:
            for number in range(users):
                add_user(
                    session, login=f"user{number}", name="", role="staff", password=PASSWORD,
                    actor="benchmark", now=time.time(),
                )  # fmt: skip
        service.start("serve")
        try:
            wait_until(lambda: is_listening(port), "the web app", timeout_s=120)
            measure(f"http://127.0.0.1:{port}", users, xray_png(Path(folder) / "x.png"))
        finally:
            service.stop()


def measure(url: str, users: int, picture: Path) -> None:
    data = picture.read_bytes()
    clients = [signed_in(url, f"user{number}") for number in range(users)]
    hand_in(clients[0], data)
    tell("one user", [hand_in(clients[0], data) for _ in range(ALONE)])
    started = time.perf_counter()
    with ThreadPoolExecutor(users) as pool:
        tell(f"{users} users at once", list(pool.map(lambda one: hand_in(one, data), clients)))
    print(f"{users / (time.perf_counter() - started):.1f} results a second")


def tell(who: str, seconds: list[tuple[float, float]]) -> None:
    shown, done = zip(*seconds, strict=True)
    print(
        f"{who}: shown after {statistics.median(shown):.2f} s (median; slowest {max(shown):.2f}), "
        f"done after {statistics.median(done):.2f} s (slowest {max(done):.2f})"
    )


if __name__ == "__main__":
    main()
