"""A headless Chromium for tests of the page."""

import contextlib
import shutil
import tempfile

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@contextlib.contextmanager
def chromium(width=1280, height=900, *, phone=False, dark=False):
    """A browser that listens to the console; skips the test, saying why, where there is none."""
    driver = shutil.which("chromedriver")
    program = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    if driver is None or program is None:
        pytest.skip("THE PAGE IS NOT TESTED: no chromium with chromedriver on this machine")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        if phone:
            metrics = {"width": width, "height": height, "pixelRatio": 2.0}
            options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
        browser = webdriver.Chrome(options=options, service=Service(driver))
        try:
            if not phone:
                browser.set_window_size(width, height)
            if dark:
                scheme = {"name": "prefers-color-scheme", "value": "dark"}
                browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            yield browser
        finally:
            browser.quit()
