"""Debian's Chromium, without a window, driven by its own driver: nothing is downloaded."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from typing import Any, Protocol, cast

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from support.waiting import wait_until

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needed = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="Debian's chromium and chromium-driver are missing"
)
PHONE, DESK = (360, 740), (1280, 900)
WAIT_S = 30.0


class _Chrome(Protocol):
    """What selenium has without types."""

    def execute_cdp_cmd(self, cmd: str, cmd_args: dict[str, object]) -> object: ...

    def execute_script(self, script: str) -> object: ...

    def get_log(self, log_type: str) -> list[dict[str, str]]: ...


class _Options(Protocol):
    def add_experimental_option(self, name: str, value: dict[str, int]) -> None: ...


class Browser:
    """One window."""

    def __init__(self, driver: WebDriver) -> None:
        self._driver = driver

    def open(self, url: str) -> None:
        self._driver.get(url)

    def size(self, width: int, height: int) -> None:
        """Make it as wide as a screen, without the least width of a window."""
        self._command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def dark(self) -> None:
        features = [{"name": "prefers-color-scheme", "value": "dark"}]
        self._command("Emulation.setEmulatedMedia", features=features)

    def _command(self, name: str, **arguments: object) -> None:
        cast(_Chrome, self._driver).execute_cdp_cmd(name, arguments)

    def text(self, selector: str) -> str:
        found: str = self._driver.find_element(By.CSS_SELECTOR, selector).text
        return found

    def run(self, script: str) -> Any:  # noqa: ANN401 - whatever the script returns
        return cast(_Chrome, self._driver).execute_script(script)

    def until(self, what: str, condition: Callable[[], object]) -> None:
        wait_until(what, lambda: bool(condition()), WAIT_S)

    def source(self) -> str:
        return self._driver.page_source

    def picture(self) -> bytes:
        return self._driver.get_screenshot_as_png()

    def console(self) -> list[str]:
        """What it has complained of since the last time."""
        driver = cast(_Chrome, self._driver)
        entries = driver.get_log("browser")
        return [entry["message"] for entry in entries]


@contextlib.contextmanager
def browser(*, scripts: bool = True) -> Generator[Browser]:
    options = webdriver.ChromeOptions()
    assert BROWSER is not None, "the test is skipped without it"
    options.binary_location = BROWSER
    options.add_argument("--headless=new")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.add_argument("--disable-dev-shm-usage")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if not scripts:
        off = {"profile.managed_default_content_settings.javascript": 2}
        cast(_Options, options).add_experimental_option("prefs", off)
    # What Chromium leaves in TMPDIR goes with it.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        service = Service(executable_path=DRIVER, env={**os.environ, "TMPDIR": scratch})
        driver = webdriver.Chrome(options=options, service=service)
        try:
            yield Browser(driver)
        finally:
            driver.quit()
