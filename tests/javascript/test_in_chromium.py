"""The suite of the JavaScript client in a real browser, as it runs in Node."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.e2e.conftest import browser
from tests.javascript.suite import FILES, HERE
from tests.servers import run_uvicorn

__all__ = ["browser"]

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = HERE.parents[1]
RUN = """
file => new Promise((resolve, reject) => {
  const worker = new Worker(`/tests/javascript/browser/worker.js?file=${file}`, {type: "module"})
  worker.onmessage = ({data}) => resolve(data)
  worker.onerror = ({message}) => reject(new Error(message))
})
"""


def file(request: Request) -> Response:
    """A file of the repository, in which modules of Node are those of `browser`."""
    path = request.path_params["path"]
    if path == "page":
        return Response("<title>tests</title>", media_type="text/html")
    if not path.endswith((".js", ".mjs")):
        return Response(status_code=404)
    code = (ROOT / path).read_text(encoding="utf-8")
    code = re.sub(r'"node:(test|assert)(/strict)?"', r'"/tests/javascript/browser/\1.js"', code)
    return Response(code, media_type="text/javascript")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def url() -> AsyncIterator[str]:
    async with run_uvicorn(Starlette(routes=[Route("/{path:path}", file)])) as url:
        yield url


@pytest.mark.parametrize("name", FILES)
async def test_the_suite_passes(name: str, browser: Browser, url: str):
    """Every test of the client passes in Chromium, too."""
    page = await browser.new_page()
    await page.goto(f"{url}/page")
    results = await page.evaluate(RUN, name)
    await page.close()

    assert len(results) > 0
    assert [(test, error) for test, error in results if error] == []
