import logging
import re
import sys
import threading
import time

import pytest

from knn_container import logs


@pytest.fixture(autouse=True)
def root_logger_as_before():
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


def logged(capsys) -> str:
    return capsys.readouterr().out


def test_a_line_has_the_shape_of_the_built_in_algorithms(capsys):
    before = time.time()
    logs.configure()
    logging.getLogger("anything").info("%d rows", 3)
    stamp, level, thread, text = re.fullmatch(r"\[(\S+ \S+) (\w+) (\d+)\] (.*)\n", logged(capsys)).groups()
    assert before - 1 <= time.mktime(time.strptime(stamp, "%m/%d/%Y %H:%M:%S")) <= time.time()
    assert (level, int(thread), text) == ("INFO", threading.get_ident(), "3 rows")


@pytest.mark.parametrize(("level", "lines"), [(logging.DEBUG, 3), (logging.INFO, 2), (logging.ERROR, 1)])
def test_lines_below_the_level_are_left_out(capsys, level, lines):
    logs.configure(level)
    for lower in (logging.DEBUG, logging.INFO, logging.ERROR):
        logging.getLogger("x").log(lower, "text")
    assert len(logged(capsys).splitlines()) == lines


def test_configuring_again_doubles_no_line(capsys):
    logs.configure()
    logs.configure()
    logging.getLogger("x").info("once")
    assert logged(capsys).count("once") == 1


def test_lines_go_to_standard_output_alone(capsys):
    logs.configure()
    logging.getLogger("x").error("text")
    assert capsys.readouterr().err == ""
    assert [handler.stream for handler in logging.getLogger().handlers] == [sys.stdout]


def test_what_faiss_says_of_its_loading_is_left_out(capsys):
    logs.configure()
    logging.getLogger("faiss.loader").info("Loading faiss with AVX2 support.")
    assert logged(capsys) == ""
