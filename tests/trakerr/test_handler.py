"""TrakerrHandler and get_logger: what is sent for a record; logging never raises into the application."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shipper
from shipper.spool.layout import Spool
from shipper.trakerr import Trakerr, TrakerrClient, TrakerrHandler, context

from ..support.servers import Reply
from ..support.trakerr_service import Service, running_service, script
from ..support.waiting import PATIENCE, scaled


@pytest.fixture
def service(spool: Path) -> Iterator[Service]:
    with running_service(spool) as server:
        yield server


@pytest.fixture
def logger(request: pytest.FixtureRequest) -> Iterator[logging.Logger]:
    """A new logger for the test, at its default level."""
    made = logging.getLogger(f"own.{request.node.name}")
    yield made
    made.handlers.clear()
    made.setLevel(logging.NOTSET)
    made.propagate = True


def test_a_warning_arrives_with_the_handler_s_defaults(service: Service, logger: logging.Logger) -> None:
    logger.addHandler(TrakerrHandler("k", "1.4"))

    logger.warning("disk %d%% full", 97)

    event = service.only()
    assert list(event) == [
        "apiKey", "logLevel", "classification", "eventType", "eventMessage", "eventTime", "contextAppVersion",
        "deploymentStage", "contextEnvName", "contextEnvLanguage", "contextEnvVersion", "contextEnvHostname",
        "contextAppOS", "contextAppOSVersion", "contextTags", "contextCpuPercentage", "contextMemoryPercentage",
    ]  # fmt: skip
    assert event["eventMessage"] == "disk 97% full"
    assert event["eventType"] == logger.name
    assert event["contextTags"] == [logger.name]
    assert event["contextAppVersion"] == "1.4"


def test_the_usual_stage_is_that_of_each_constructor(service: Service, logger: logging.Logger) -> None:
    """T21: The handler's default differs from that of the client and of get_logger, as the README says."""
    logger.addHandler(TrakerrHandler("k"))
    logger.error("handler")
    Trakerr.get_logger("k", "1.0", f"{logger.name}-other").error("get_logger")
    TrakerrClient("k").log({}, exc_info=False)

    assert [event["deploymentStage"] for event in service.delivered()] == ["deployment", "development", "development"]


def test_the_level_is_that_of_the_number(service: Service, logger: logging.Logger) -> None:
    logger.addHandler(TrakerrHandler("k", level=1))
    logger.setLevel(1)
    levels = {5: "debug", 10: "debug", 20: "info", 25: "info", 30: "warning", 35: "warning", 40: "error", 50: "fatal"}

    for level in levels:
        logger.log(level, "m")

    events = service.delivered()
    assert [event["logLevel"] for event in events] == list(levels.values())
    assert [event["classification"] for event in events] == ["log"] * 4 + ["issue"] * 4


def test_less_than_a_warning_is_not_sent_by_default(service: Service, logger: logging.Logger) -> None:
    logger.addHandler(TrakerrHandler("k"))
    logger.setLevel(logging.DEBUG)
    logger.info("quiet")
    logger.warning("loud")

    assert service.only()["eventMessage"] == "loud"


def test_a_level_may_be_a_name(logger: logging.Logger, service: Service) -> None:
    assert TrakerrHandler("k", level="INFO").level == logging.INFO
    with pytest.raises(ValueError, match="Unknown level: 'bogus'"):
        TrakerrHandler("k", level="bogus")


def test_a_prepared_client_gives_its_properties(service: Service, logger: logging.Logger) -> None:
    client = TrakerrClient("k", "3.1", "production", tags=["web"])
    client.context_data_center = "east"
    logger.addHandler(TrakerrHandler(client=client))

    logger.error("one")
    client.context_app_browser = "Chrome"
    client.context_env_version = None
    logger.error("two")

    first, second = service.delivered()
    assert (first["contextAppVersion"], first["deploymentStage"]) == ("3.1", "production")
    assert first["contextTags"] == ["web", logger.name]
    assert first["contextDataCenter"] == "east"
    assert ("contextAppBrowser" in first, second["contextAppBrowser"]) == (False, "Chrome")
    assert ("contextEnvVersion" in first, "contextEnvVersion" in second) == (True, False)


def test_a_client_of_another_class_is_refused() -> None:
    """T38: The old handler silently ignored such an argument."""
    with pytest.raises(TypeError, match="client is expected of class TrakerrClient, not str"):
        TrakerrHandler("k", client="client")  # type: ignore[arg-type]


def test_a_handler_without_key_or_client_is_refused() -> None:
    with pytest.raises(TypeError, match="Arguments are expected strings: api_key is NoneType"):
        TrakerrHandler()


def test_tags_name_the_record_s_logger_and_no_other(service: Service) -> None:
    """T8: The old handler sent the name of every logger it had seen with every later event."""
    handler = TrakerrHandler("k")
    loggers = [logging.getLogger(f"tags.{name}") for name in "ab"]
    for logger in loggers:
        logger.addHandler(handler)

    for logger in [*loggers, *loggers]:
        logger.error("m")

    assert [event["contextTags"] for event in service.delivered()] == [["tags.a"], ["tags.b"]] * 2
    assert handler.trakerr_client.context_tags == []


def test_the_time_is_that_of_the_record(service: Service, logger: logging.Logger) -> None:
    """T10: The old client sent the time of sending."""
    logger.addHandler(TrakerrHandler("k"))
    record = logger.makeRecord(logger.name, logging.ERROR, "f", 1, "m", (), None)
    record.created = 1_600_000_000.987

    logger.handle(record)

    assert service.only()["eventTime"] == 1_600_000_000_987


def test_an_exception_gives_the_type_and_keeps_the_message(service: Service, logger: logging.Logger) -> None:
    logger.addHandler(TrakerrHandler("k"))
    try:
        raise FloatingPointError
    except FloatingPointError:
        logger.exception("Bad math.")

    event = service.only()
    assert (event["eventType"], event["eventMessage"]) == ("builtins.FloatingPointError", "Bad math.")
    assert event["eventStacktrace"][0]["message"] == ""
    assert [line["function"] for line in event["eventStacktrace"][0]["traceLines"]] == [
        "test_an_exception_gives_the_type_and_keeps_the_message"
    ]


def test_nothing_that_is_logged_raises(service: Service, logger: logging.Logger) -> None:
    """T4, T5, T6: In the old client wrong arguments and some exceptions made the logging call raise."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    logger.addHandler(TrakerrHandler("k"))
    logger.propagate = False  # pytest's handler on the root logger would raise
    logger.error("%d", "no number")
    logger.error("mute", exc_info=Mute())
    logger.error("never raised", exc_info=ValueError("v"))
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        logger.exception("interrupted")

    assert [event["eventType"] for event in service.delivered()][1:] == [
        f"{__name__}.test_nothing_that_is_logged_raises.<locals>.Mute",
        "builtins.ValueError",
        "builtins.KeyboardInterrupt",
    ]


def test_extras_travel_as_custom_data(service: Service, logger: logging.Logger) -> None:
    """T32: The old client sent no extras."""
    logger.addHandler(TrakerrHandler("k"))

    logger.error("paid", extra={"order": 17, "amount": 12.5, "trakerr": {"event_user": "u", "context_device": "pc"}})

    event = service.only()
    assert event["customProperties"] == {"stringData": {"customData1": "amount=12.5", "customData2": "order=17"}}
    assert (event["eventUser"], event["contextDevice"]) == ("u", "pc")


def test_a_record_goes_to_a_key_once_however_many_handlers_see_it(service: Service, logger: logging.Logger) -> None:
    """T30: With the old client, handlers on the root logger and on another one sent each record twice."""
    logger.addHandler(TrakerrHandler("k"))
    logging.getLogger().addHandler(TrakerrHandler("k"))
    inner = Trakerr.get_logger("k", "1.0", f"{logger.name}.inner")

    inner.error("inner")
    logger.error("outer")

    assert [event["eventMessage"] for event in service.delivered()] == ["inner", "outer"]


def test_two_keys_get_a_record_each(service: Service, logger: logging.Logger) -> None:
    logger.addHandler(TrakerrHandler("one"))
    logger.addHandler(TrakerrHandler("two"))

    logger.error("m")

    assert {event["apiKey"] for event in service.delivered()} == {"one", "two"}


@pytest.mark.parametrize("root_first", [True, False])
def test_a_root_handler_and_a_trakerr_handler_send_a_record_once(
    service: Service, spool: Path, logger: logging.Logger, root_first: bool
) -> None:
    shipper.start(shipper.Trakerr("k", url=service.address), app="both", spool=spool)
    # Handlers of the root logger see the record after those of the logger itself.
    (logging.getLogger() if root_first else logger).addHandler(TrakerrHandler("k"))

    logger.error("m")

    assert service.only()["eventMessage"] == "m"


def test_a_root_handler_below_its_level_leaves_the_record_to_the_trakerr_handler(
    service: Service, spool: Path, logger: logging.Logger
) -> None:
    shipper.start(shipper.Trakerr("k", url=service.address, level=logging.ERROR), app="both", spool=spool)
    logging.getLogger().addHandler(TrakerrHandler("k", level=logging.WARNING))

    logger.warning("m")

    assert service.only()["eventMessage"] == "m"


def test_a_client_does_not_make_the_root_handler_send_to_its_key(
    service: Service, spool: Path, logger: logging.Logger
) -> None:
    shipper.start(shipper.Trakerr("application", url=service.address), app="apart", spool=spool)
    TrakerrClient("by hand").log({"eventmessage": "by hand"}, exc_info=False)

    logger.error("m")

    events = service.delivered()
    assert sorted((event["apiKey"], event["eventMessage"]) for event in events) == [
        ("application", "m"),
        ("by hand", "by hand"),
    ]


def test_the_last_call_of_get_logger_counts(service: Service, logger: logging.Logger) -> None:
    """T31: The old client silently ignored key, version and stage of the second call."""
    Trakerr.get_logger("one", "1.0", logger.name)
    again = Trakerr.get_logger("two", "2.0", logger.name, "production")

    again.error("m")

    event = service.only()
    assert (event["apiKey"], event["contextAppVersion"], event["deploymentStage"]) == ("two", "2.0", "production")
    assert again is logger
    assert len(again.handlers) == 1


def test_a_name_that_is_no_text_is_taken_as_one(service: Service) -> None:
    logger = Trakerr.get_logger("k", "1.0", None)  # type: ignore[arg-type]

    assert logger.name == "None"


def test_get_logger_wants_texts(service: Service) -> None:
    with pytest.raises(TypeError, match="context_app_version is int"):
        Trakerr.get_logger("k", 1, "name")  # type: ignore[arg-type]


def test_a_handler_of_dict_config_is_one(service: Service, logger: logging.Logger) -> None:
    handler = {"class": "shipper.trakerr.TrakerrHandler", "api_key": "k", "app_version": "7", "level": "ERROR"}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"trakerr": handler},
            "loggers": {logger.name: {"handlers": ["trakerr"]}},
        }
    )

    logger.warning("quiet")
    logger.error("loud")

    event = service.only()
    assert (event["eventMessage"], event["contextAppVersion"]) == ("loud", "7")


def test_filters_are_asked(service: Service, logger: logging.Logger) -> None:
    handler = TrakerrHandler("k")
    handler.addFilter(lambda record: "secret" not in record.getMessage())
    logger.addHandler(handler)

    logger.error("secret")
    logger.error("public")

    assert service.only()["eventMessage"] == "public"


# Scope ---------------------------------------------------------------------------------------------------------------


def test_a_context_reaches_records_of_every_handler(service: Service, spool: Path, logger: logging.Logger) -> None:
    shipper.start(shipper.Trakerr("root", url=service.address), app="scope", spool=spool)
    logger.addHandler(TrakerrHandler("k"))

    with context(user="u", session="s", url="/x", correlation_id="c"):
        logger.error("inside", extra={"trakerr": {"event_session": "own"}})
    logger.error("outside")

    keys = ("eventUser", "eventSession", "contextURL", "contextCrossAppCorrelationId")
    found = {(event["apiKey"], event["eventMessage"]): tuple(map(event.get, keys)) for event in service.delivered()}
    assert found == {
        ("root", "inside"): ("u", "own", "/x", "c"),
        ("k", "inside"): ("u", "own", "/x", "c"),
        ("root", "outside"): (None, None, None, None),
        ("k", "outside"): (None, None, None, None),
    }


def test_tasks_have_their_contexts_apart(service: Service, logger: logging.Logger) -> None:
    logger.addHandler(TrakerrHandler("k"))

    async def task(name: str, gate: asyncio.Event) -> None:
        with context(user=name):
            await gate.wait()
            logger.error(name)

    async def main() -> None:
        gate = asyncio.Event()
        tasks = [asyncio.create_task(task(name, gate)) for name in "abc"]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())

    assert {event["eventMessage"]: event["eventUser"] for event in service.delivered()} == {
        "a": "a", "b": "b", "c": "c"
    }  # fmt: skip


# Processes -----------------------------------------------------------------------------------------------------------


def test_importing_changes_nothing(tmp_path: Path) -> None:
    """T11, T17: Importing the old client started a thread, changed loggers, and wrote to stderr."""
    done = script(
        tmp_path,
        """
        import http.client, logging, sys, threading
        before = dict(logging.Logger.manager.loggerDict)
        http.client.HTTPConnection.debuglevel = 3
        import shipper.trakerr, shipper.trakerr.models
        assert threading.active_count() == 1, threading.enumerate()
        assert logging.getLogger().handlers == []
        added = set(logging.Logger.manager.loggerDict) - set(before)
        assert not {name for name in added if name.startswith(("urllib3", "requests", "trakerr"))}, added
        assert http.client.HTTPConnection.debuglevel == 3
        assert not {"requests", "urllib3", "tenacity", "psutil"} & set(sys.modules)
        """,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_program_ends_without_shutdown_and_loses_nothing(service: Service, tmp_path: Path) -> None:
    """T11: With the old client such a program never ended."""
    done = script(
        tmp_path,
        """
        from shipper.trakerr import Trakerr
        logger = Trakerr.get_logger("k", "1.0", "name")
        for number in range(20):
            logger.error("%d", number)
        """,
    )

    assert (done.returncode, done.stderr) == (0, "")
    service.wait_for(20)
    assert [event["eventMessage"] for event in service.arrived()] == [str(number) for number in range(20)]


def test_a_working_directory_that_is_gone_troubles_nobody(service: Service, tmp_path: Path) -> None:
    """T6: With the old client the logging call raised."""
    done = script(
        tmp_path,
        """
        import logging, os, sys
        sys.path.insert(0, "")
        os.mkdir("gone")
        os.chdir("gone")
        os.rmdir("../gone")
        from shipper.trakerr import TrakerrHandler
        logging.getLogger("gone").addHandler(TrakerrHandler("k"))
        try:
            raise ValueError("x")
        except ValueError:
            logging.getLogger("gone").exception("m")
        """,
    )

    assert (done.returncode, done.stderr) == (0, "")
    service.wait_for(1)


def test_a_program_that_is_killed_loses_nothing(service: Service, tmp_path: Path) -> None:
    done = script(
        tmp_path,
        """
        import os
        from shipper.trakerr import TrakerrClient
        client = TrakerrClient("k")
        for number in range(20):
            client.log({"eventmessage": str(number)}, exc_info=False)
        os._exit(3)
        """,
    )

    assert done.returncode == 3
    service.wait_for(20)


def test_forked_children_ship_what_they_log(service: Service, tmp_path: Path) -> None:
    """T19: The old client queued a child's first events for threads of its parent, and lost them."""
    done = script(
        tmp_path,
        """
        import multiprocessing, os, logging
        from shipper.trakerr import TrakerrClient, TrakerrHandler
        client = TrakerrClient("k")
        logger = logging.getLogger("forked")
        logger.addHandler(TrakerrHandler(client=client))
        logger.error("parent")
        for number in range(3):
            if os.fork() == 0:
                logger.error("child %d", number)
                os._exit(0)
        for _ in range(3):
            os.wait()
        def work(number):
            client.log({"eventmessage": f"worker {number}"}, exc_info=False)
        workers = [multiprocessing.get_context("fork").Process(target=work, args=(number,)) for number in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert TrakerrClient.shutdown(60)
        """,
    )

    assert (done.returncode, done.stderr) == (0, "")
    service.wait_for(7)
    expected = {"parent", *(f"{kind} {number}" for kind in ("child", "worker") for number in range(3))}
    assert {event["eventMessage"] for event in service.arrived()} == expected
    assert len(service.requests) == 7


def test_workers_that_make_their_own_handlers_share_one_shipper_process(service: Service, tmp_path: Path) -> None:
    done = script(
        tmp_path,
        """
        import multiprocessing, logging, os, sys
        def work(number, all_log):
            import shipper
            from shipper.trakerr import TrakerrClient, TrakerrHandler
            logger = logging.getLogger("worker")
            logger.addHandler(TrakerrHandler("k", "1.0", "production"))
            for event in range(10):
                logger.error("%d-%d", number, event)
            all_log.wait(60)  # the shipper process ends when nobody logs any more
            assert TrakerrClient.shutdown(60)
            os.write(1, f"{shipper.status().pid}\\n".encode())  # in one piece
        if __name__ == "__main__":
            context = multiprocessing.get_context("fork")
            all_log = context.Barrier(3)
            workers = [context.Process(target=work, args=(number, all_log)) for number in range(3)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            sys.exit(sum(worker.exitcode for worker in workers))
        """,
    )

    assert (done.returncode, done.stderr) == (0, "")
    service.wait_for(30)
    assert len({event["eventMessage"] for event in service.arrived()}) == 30
    assert len(set(done.stdout.split())) == 1


# Trouble -------------------------------------------------------------------------------------------------------------


def test_a_handler_on_the_root_logger_makes_no_loop_when_the_service_is_down(spool: Path) -> None:
    """T16: The old client sent the warnings of its retries as records: one record led to 2000 a second."""
    with running_service(spool, [Reply(503)] * 3) as service:
        logging.getLogger().addHandler(TrakerrHandler("k"))
        logging.getLogger("loop").error("m")
        events = service.delivered()

    assert [event["eventMessage"] for event in events] == ["m"] * 4


def test_logging_does_not_wait_for_a_service_that_hangs(spool: Path, logger: logging.Logger) -> None:
    """T18: In the old client one connection without a timeout blocked everything."""
    with running_service(spool, default=Reply(silent=True, then="hang")):
        client = TrakerrClient("k", timeout=(0.5, 0.5))
        logger.addHandler(TrakerrHandler(client=client))
        begun = time.monotonic()
        for _ in range(200):
            logger.error("m")
        took = time.monotonic() - begun

    assert took < scaled(2)


def test_shutdown_waits_until_all_is_delivered(service: Service, logger: logging.Logger) -> None:
    """T39: The old client's shutdown flushed nothing."""
    client = TrakerrClient("k")
    for _ in range(50):
        client.log({}, exc_info=False)

    assert client.shutdown(PATIENCE)
    assert len(service.requests) == 50
    client.log({}, exc_info=False)
    assert TrakerrClient.shutdown(PATIENCE)
    assert len(service.requests) == 51


def test_shutdown_of_nothing_is_done_at_once() -> None:
    assert TrakerrClient.shutdown(PATIENCE)


def test_shutdown_keeps_its_time_and_tells_the_truth(spool: Path) -> None:
    with running_service(spool, default=Reply(503)):
        TrakerrClient("k").log({}, exc_info=False)
        begun = time.monotonic()
        assert not TrakerrClient.shutdown(0.3)
        took = time.monotonic() - begun

    assert took < scaled(2)


def test_events_after_stop_are_counted_and_raise_nothing(
    service: Service, spool: Path, logger: logging.Logger
) -> None:
    client = TrakerrClient("k")
    logger.addHandler(TrakerrHandler(client=client))
    shipper.stop()

    heard: list[Any] = []
    client.log({}, exc_info=False)
    client.send_event_async(client.create_new_app_event(), heard.append)
    logger.error("late")

    assert heard == []
    assert service.arrived() == []
    # The count of dropped events stays there until a shipper process reads it; none will start.
    shutil.rmtree(Spool(str(spool)).overflow)


def test_threads_share_a_handler(service: Service, logger: logging.Logger) -> None:
    logger.addHandler(TrakerrHandler("k"))

    def work() -> None:
        for _ in range(25):
            logger.error("m")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(service.delivered()) == 100
