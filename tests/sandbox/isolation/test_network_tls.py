"""`--net` and TLS: certificates are checked in the sandbox, popular libraries find the proxy by themselves."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_kernel.sandbox.isolation import network
from rlm_kernel.sandbox.isolation.inside import landlock
from rlm_kernel.sandbox.isolation.levels import why_not
from rlm_kernel.sandbox.kernel import KernelSandbox
from tests.sandbox.isolation.hostile import SMALL
from tests.sandbox.isolation.web import PRELUDE, Server, served
from tests.sandbox.lab import Lab, lab

ssl = pytest.importorskip("ssl", exc_type=ImportError)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `localhost`, with its key, signed by itself."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    made = tmp_path_factory.mktemp("tls") / "both.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(made), "-out", str(made.with_suffix(".crt"))]
    subprocess.run([program, *words], check=True, capture_output=True)
    made.write_text(made.read_text() + made.with_suffix(".crt").read_text())
    return made


@pytest.fixture(scope="module")
def secure(certificate: Path) -> Iterator[Server]:
    """With that certificate."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with served(tls) as server:
        yield server


@pytest.fixture(scope="module")
def inside(secure: Server, certificate: Path) -> Iterator[Lab]:
    """A sandbox that may reach it, and has the certificate to trust."""
    if missing := why_not("full"):
        pytest.skip(missing)
    if landlock.abi() < landlock.KNOWS_PORTS:
        pytest.skip("this kernel's Landlock knows no ports")
    with lab(KernelSandbox(level="full", limits=SMALL, net=f"localhost:{secure.server_port}")) as made:
        made.start()
        more = f"import ssl\nPORT, TRUSTED = {secure.server_port}, {certificate.with_suffix('.crt').read_text()!r}"
        assert made.run(PRELUDE + more + "\nopen('trusted.pem', 'w').write(TRUSTED)").status == "ok"
        yield made


def test_the_certificate_is_checked_inside(inside: Lab, secure: Server) -> None:
    """The tunnel ends in the sandbox: with the certificate trusted it is an answer, without it an error of TLS."""
    secure.seen.clear()
    ran = inside.run("""
attempt(lambda: fetch(f'https://localhost:{PORT}/one', context=ssl.create_default_context(cadata=TRUSTED)))
attempt(fetch, f'https://localhost:{PORT}/two')
attempt(fetch, 'https://1.1.1.1/')
""")
    first, second, third = ran.text("stdout").strip().splitlines()

    assert first == "GOT /one"
    assert "CERTIFICATE_VERIFY_FAILED" in second
    assert "403 1.1.1.1:443 is not on the --net list" in third
    assert secure.seen == ["/one"]


@pytest.mark.parametrize("library", ["requests", "httpx"])
def test_popular_libraries(library: str, inside: Lab) -> None:
    """They find the proxy by themselves, and show why they were refused."""
    pytest.importorskip(library)
    ran = inside.run(f"""
import {library} as library
trusted = 'trusted.pem' if library.__name__ == 'requests' else ssl.create_default_context(cadata=TRUSTED)
attempt(lambda: library.get(f'https://localhost:{{PORT}}/{library}', verify=trusted).text)
attempt(lambda: library.get('https://evil.example/'))
""")
    first, second = ran.text("stdout").strip().splitlines()

    assert first == f"GOT /{library}"
    assert "evil.example:443 is not on the --net list" in second
    assert not second.startswith("GOT")


def test_what_this_machine_trusts(inside: Lab) -> None:
    """Its public certificates are there to be read, so that nobody needs to turn the checks off."""
    ours = len(ssl.create_default_context().get_ca_certs())

    assert int(inside.say("len(ssl.create_default_context().get_ca_certs())")) == ours


def test_certificates_are_public_files() -> None:
    """What is shown of /etc for TLS are certificates, no keys."""
    for path in network.certificates():
        assert Path(path).exists()
        assert "private" not in path
        assert path not in ("/", "/etc", "/etc/ssl", "/etc/pki")
