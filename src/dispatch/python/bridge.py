# Speaks for one dispatcher class of NAV's smsd: the lines of docs/exec.md on one side, sendsms() on the other.
#
# `setup` (what to load) and `lines` (what smsd says) are there already. The class finds the surroundings that NAV gives
# it, NAV's own where NAV is installed, else the stand-ins below. Its standard output and input are not smsd's.

import importlib
import itertools
import json
import logging
import os
import sys
import threading
import traceback
import types
from concurrent.futures import ThreadPoolExecutor

EX_TEMPFAIL, EX_CONFIG = 75, 78


class DispatcherError(Exception):
    """An SMS could not be sent."""


class PermanentDispatcherError(DispatcherError):
    """No SMS can be sent until someone acts."""


class Dispatcher:
    """What NAV's dispatchers are derived from, for machines without NAV."""

    def __init__(self):
        self.logger = logging.getLogger("nav.smsd.dispatcher")
        self.maxlen = 160
        self.ignlen = 15

    def formatsms(self, msgs):
        """The text, all ids, and no id that is left out: what comes from smsd is composed and fits."""
        texts = [message[1] for message in msgs]
        if len(texts) > 1:
            texts = [f"{number}: {text}" for number, text in enumerate(texts, 1)]
        return "; ".join(texts), [message[0] for message in msgs], []

    def sendsms(self, phone, msgs):
        raise NotImplementedError


def errors():
    """DispatcherError and PermanentDispatcherError: NAV's, or ours in NAV's place."""
    name = "nav.smsd.dispatcher"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in ("nav", "nav.smsd", name):
            raise
        module = put(name, types.ModuleType(name))
        for stand_in in (Dispatcher, DispatcherError, PermanentDispatcherError):
            stand_in.__module__ = name
            setattr(module, stand_in.__name__, stand_in)
    else:
        like_nav()
    return module.DispatcherError, module.PermanentDispatcherError


def put(name, module):
    """Makes a module importable, with the packages that it stands in."""
    parent, _, last = name.rpartition(".")
    sys.modules[name] = module
    if parent:
        try:
            package = importlib.import_module(parent)
        except ModuleNotFoundError:
            package = types.ModuleType(parent)
            package.__path__ = []
            put(parent, package)
        setattr(package, last, module)
    return module


def like_nav():
    """Sets Django up as NAV's own daemon does: some dispatchers send mail by it."""
    try:
        from nav.bootstrap import bootstrap_django
    except ImportError:
        return
    try:
        bootstrap_django("smsd")
    except Exception as error:
        logging.warning("Django is not set up: %s", error)


def load():
    module = importlib.import_module(setup["module"])
    try:
        found = getattr(module, setup["class"])
    except AttributeError:
        raise ImportError(f"module {setup['module']} has no class {setup['class']}") from None
    return found(setup["config"])


def judge(dispatcher, number, request):
    text = request["text"]
    # NAV's formatsms() drops the only message if it is too long for it; this one fits already.
    maxlen = getattr(dispatcher, "maxlen", None)
    if isinstance(maxlen, int) and maxlen <= len(text):
        dispatcher.maxlen = len(text) + 1
    try:
        _sms, sent, ignored, result, smsid = dispatcher.sendsms(request["to"], [(number, text, 1)])
    except permanent as error:
        return {"class": "DPERM", "code": type(error).__name__, "detail": shown(error)}
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        return {"class": "ERR", "code": type(error).__name__, "detail": shown(error)}
    if result is False:
        return {"class": "ERR", "code": "false", "detail": "sendsms() returned false"}
    if ignored and not sent:
        return {"class": "MSG", "code": "ignored", "detail": "the class left the text out of its SMS"}
    return {"ok": True, "reference": clean(smsid)} if smsid else {"ok": True}


def shown(error):
    return clean(f"{type(error).__name__}: {error}")


def clean(words):
    """Short, and nothing that is no Unicode: what is in an answer must not keep it from being read."""
    return str(words)[:1000].encode("utf-8", "replace").decode()


def say(answer):
    line = json.dumps(answer).encode() + b"\n"
    with lock:
        out.write(line)


def serve(dispatcher, number, request):
    try:
        answer = judge(dispatcher, number, request)
    except BaseException as error:
        answer = {"class": "ERR", "code": type(error).__name__, "detail": "the class has broken off"}
    say({"id": request["id"], **answer})


out = os.fdopen(os.dup(1), "wb", 0)
lock = threading.Lock()
os.dup2(2, 1)
sys.stdout.reconfigure(line_buffering=True)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
sys.path = setup["path"] + [folder for folder in sys.path if folder]
logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

try:
    temporary, permanent = errors()
    dispatcher = load()
except (ConnectionError, TimeoutError):
    traceback.print_exc()
    sys.exit(EX_TEMPFAIL)
except BaseException:
    traceback.print_exc()
    sys.exit(EX_CONFIG)

say({"smsd": 1})
pool = ThreadPoolExecutor(setup["threads"]) if setup["threads"] > 1 else None
numbers = itertools.count(1)
for line in lines:
    request = json.loads(line)
    if "probe" in request:
        say({"id": request["probe"], "ok": True})
    elif pool:
        pool.submit(serve, dispatcher, next(numbers), request)
    else:
        serve(dispatcher, next(numbers), request)
os._exit(0)
