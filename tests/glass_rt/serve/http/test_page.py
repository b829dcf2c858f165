"""The page at `/` in a real browser: headless Chromium, driven as a person would."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glass_rt import Detector
from glass_rt.serve.http.page import content_security_policy, page_html
from tests.bench_zoo import write_bundle
from tests.bench_zoo import write_picture as write_zoo_picture
from tests.calibrations import calibrate, tier
from tests.serving import Process, serve_process
from tests.support import write_picture

pytestmark = pytest.mark.browser

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1000,1400",
)
WAIT_S = 60


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium with chromedriver here: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(WAIT_S)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any, whole_server: Process) -> Iterator[Any]:
    """The page, freshly loaded; afterwards the browser's console holds no error of the page."""
    browser.get_log("browser")
    browser.get(f"http://{whole_server.http}/")
    yield browser
    errors = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [error for error in errors if "v1/verdict" not in error], errors  # a refusal is noted there too


def text(page: Any, element: str) -> str:
    found: str = page.find_element("id", element).text
    return found


def choose(page: Any, path: Path) -> None:
    page.find_element("id", "file").send_keys(str(path))


def wait_for(page: Any, condition: Callable[[], bool]) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(page, WAIT_S).until(lambda _: condition())


def wait_for_verdict(page: Any) -> None:
    wait_for(page, lambda: bool(text(page, "verdict") or text(page, "error")))
    assert not text(page, "error")


@pytest.fixture
def picture(pictures: tuple[Path, ...]) -> Path:
    return next(path for path in pictures if path.name.startswith("640x480"))


def test_a_chosen_image_gets_its_verdict_evidence_and_timings(page: Any, picture: Path, judge: Detector) -> None:
    choose(page, picture)
    wait_for_verdict(page)
    verdict = judge.detect(picture)
    assert text(page, "verdict") == f"P(AI-generated) = {verdict.probability_fake:.4f}"  # untrained: no label
    assert text(page, "decision") == "No label: the weights are untrained: the score says nothing."
    assert picture.name in text(page, "summary")
    assert f"seed {verdict.seed}" in text(page, "summary")
    notices = [notice.text for notice in page.find_elements("css selector", "#notices li")]
    assert notices == list(verdict.notices)
    assert notices[0].startswith("UNTRAINED WEIGHTS")
    wait_for(page, lambda: page.execute_script("return document.getElementById('overlay').naturalWidth >= 640"))
    assert f"{len(verdict.crops)} crops" in page.find_element("id", "overlay").get_attribute("alt")
    stages = [row.text.split()[0] for row in page.find_elements("css selector", "#timings tr")]
    assert stages == ["decode", "views", "engine", "aggregate", "total", "sending"]
    rows = page.find_elements("css selector", "#crop-rows tr")
    strongest = max(range(len(verdict.crops)), key=lambda number: abs(verdict.crops[number].effect or 0))
    crop = verdict.crops[strongest]
    assert len(rows) == len(verdict.crops)
    assert rows[0].text == f"{strongest + 1} {crop.left}, {crop.top} {crop.attention:.3f} {crop.effect:+.4f}"
    response = json.loads(page.find_element("id", "json").get_attribute("textContent"))
    assert response["probability_fake"] == verdict.probability_fake
    assert "overlay_jpeg_base64" not in response


def test_a_dropped_image_gets_its_verdict(page: Any, picture: Path, judge: Detector) -> None:
    drop = """
        const [url, name] = arguments;
        const bytes = Uint8Array.from(atob(url), c => c.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], name, { type: "image/png" }));
        const event = kind => new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: data });
        const target = document.querySelector("h1");
        const over = target.dispatchEvent(event("dragover"));
        const marked = document.getElementById("drop").className;
        const dropped = target.dispatchEvent(event("drop"));
        return [over, dropped, marked, document.getElementById("drop").className];
    """
    encoded = base64.b64encode(picture.read_bytes()).decode()
    # The browser's own handling, which would leave the page, is prevented for both events.
    assert page.execute_script(drop, encoded, "dropped.png") == [False, False, "over", ""]
    wait_for_verdict(page)
    assert f"{judge.detect(picture).probability_fake:.4f}" in text(page, "verdict")
    assert "dropped.png" in text(page, "summary")


def test_options_are_sent_along(page: Any, picture: Path) -> None:
    page.find_element("css selector", "summary").click()
    page.find_element("id", "crops").send_keys("2")
    page.find_element("id", "seed").send_keys(str(2**64 - 1))
    choose(page, picture)
    wait_for_verdict(page)
    assert len(page.find_elements("css selector", "#crop-rows tr")) == 2
    shown = page.find_element("id", "json").get_attribute("textContent")
    assert json.loads(shown)["seed"] == 2**64 - 1  # which JavaScript's numbers do not hold


def test_what_is_no_image_is_refused_in_the_servers_words(page: Any, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not an image")
    choose(page, file)
    wait_for(page, lambda: bool(text(page, "error")))
    assert text(page, "error").startswith("notes.txt: not an image that can be read")
    assert "(415, format)" in text(page, "error")
    assert not page.find_element("id", "result").is_displayed()


def test_a_hostile_file_name_stays_text(page: Any, tmp_path: Path, picture: Path) -> None:
    name = "<img src=x onerror=document.title='taken'><script>document.title='taken'<&>.png"
    name = name.replace("/", "")
    copy = tmp_path / name
    copy.write_bytes(picture.read_bytes())
    choose(page, copy)
    wait_for_verdict(page)
    assert name in text(page, "summary")
    assert page.title == "glass-rt"
    assert not page.find_elements("css selector", "#summary *")


def test_markup_in_an_answer_stays_text(page: Any, picture: Path) -> None:
    """A server's words, as they would come from a hostile bundle."""
    response = {"error": {"message": "<b id=markup>bold</b>", "kind": "x"}}
    page.execute_script(
        "const body = arguments[0]; window.fetch = async () => new Response(body, { status: 500 });",
        json.dumps(response),
    )
    choose(page, picture)
    wait_for(page, lambda: bool(text(page, "error")))
    assert "<b id=markup>" in text(page, "error")
    assert not page.find_elements("id", "markup")


def test_the_latest_image_is_the_one_that_is_shown(page: Any, pictures: tuple[Path, ...], picture: Path) -> None:
    for path in (pictures[0], picture):
        choose(page, path)
    wait_for_verdict(page)
    page.execute_async_script("setTimeout(arguments[0], 3000)")  # the other response comes, and changes nothing
    assert picture.name in text(page, "summary")


def test_it_can_be_used_by_keyboard_and_screen_reader(page: Any, picture: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    page.find_element("css selector", "body").send_keys(Keys.TAB)
    assert page.switch_to.active_element.get_attribute("id") == "file"
    ActionChains(page).send_keys(Keys.TAB).perform()
    assert page.switch_to.active_element.tag_name == "summary"
    names = page.execute_script(
        "return [...document.querySelectorAll('input')].map(input => input.labels[0]?.textContent.trim() ?? '')"
    )
    assert all(names), names
    assert page.find_element("id", "status").get_attribute("role") == "status"
    assert page.find_element("id", "error").get_attribute("role") == "alert"
    choose(page, picture)
    wait_for_verdict(page)
    assert page.switch_to.active_element.get_attribute("id") == "verdict"  # read out when it comes
    assert page.find_element("css selector", "html").get_attribute("lang") == "en"


def test_it_fits_a_narrow_screen(page: Any, tmp_path: Path) -> None:
    wide = tmp_path / f"{'a-long-name' * 12}.png"
    write_picture(wide, np.full((100, 1200, 3), 128, np.uint8))
    page.set_window_size(500, 900)
    try:
        choose(page, wide)
        wait_for_verdict(page)
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    finally:
        page.set_window_size(1000, 1400)


def test_nothing_but_the_page_itself_may_run(page: Any, whole_server: Process) -> None:
    blocked = page.execute_async_script(
        """
        const done = arguments[0];
        addEventListener("securitypolicyviolation", event => done(event.effectiveDirective));
        const script = document.createElement("script");
        script.textContent = "document.title = 'taken'";
        document.body.append(script);
        """
    )
    assert blocked.startswith("script-src")
    assert page.title == "glass-rt"
    browser_log = page.get_log("browser")
    assert any("Content Security Policy" in entry["message"] for entry in browser_log)


def test_the_page_names_no_other_place(whole_server: Process) -> None:
    response = whole_server.ask("GET", "/")
    html = response.body.decode()
    assert html == page_html()
    assert not re.search(r"https?:|//[a-z]", html)
    policy = response.headers["content-security-policy"]
    assert policy == content_security_policy(html)
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert response.headers["x-content-type-options"] == "nosniff"


def test_each_inline_script_and_style_has_its_hash() -> None:
    html = page_html()
    assert len(re.findall("<script", html)) == len(
        re.findall(r"script-src( 'sha256-[^']+')+", content_security_policy(html))
    )
    assert not re.search(r"\son[a-z]+=|style=", html)  # attributes have no hash


RED, BLUE, GREY = (170, 90, 80), (80, 100, 160), (120, 120, 120)
LABELLED = [("plain", RED, "fake"), ("plain", BLUE, "real")]
LABELLED += [("calibrated", RED, "fake"), ("calibrated", BLUE, "real"), ("calibrated", GREY, "unsure")]


@pytest.fixture(scope="module")
def labelling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Path, Process]]]:
    """A bundle that is calibrated and one that is not, each with its server."""
    folder = tmp_path_factory.mktemp("labelling")
    with ExitStack() as stack:
        found = {}
        for name in ("plain", "calibrated"):
            bundle = write_bundle(folder / name / "bundle")
            if name == "calibrated":
                calibrate(bundle, tier("the rest", 0.505, 0.495))
            found[name] = bundle, stack.enter_context(serve_process(bundle, folder / name))
        yield found


@pytest.mark.parametrize(("name", "colour", "label"), LABELLED)
def test_the_page_shows_the_label_and_its_ground(
    browser: Any,
    labelling: dict[str, tuple[Path, Process]],
    name: str,
    colour: tuple[int, int, int],
    label: str,
    tmp_path: Path,
) -> None:
    bundle, server = labelling[name]
    picture = write_zoo_picture(tmp_path / "picture.png", colour, 640, 480)
    with Detector.open(bundle) as detector:
        verdict = detector.detect(picture)
    browser.get(f"http://{server.http}/")
    choose(browser, picture)
    wait_for_verdict(browser)
    assert text(browser, "verdict") == f"{label.upper()} — P(AI-generated) = {verdict.probability_fake:.4f}"
    assert browser.find_element("id", "verdict").get_attribute("class") == label
    ground = text(browser, "decision")
    if name == "plain":
        assert ground == "Called fake from 0.5 on. No guarantee: the bundle is not calibrated."
    else:
        assert f"Calibration {verdict.decision.id}, tier the rest" in ground
        assert "fake above 0.5050, real below 0.4950, else unsure" in ground
        assert "at most 0.01 of real images are called fake" in ground
        assert (verdict.decision.reason or "confidence 0.95") in ground
