"""Run the scenarios of a program on tocsin or on APScheduler, and print what they give as JSON.

Usage: run.py {tocsin|apscheduler} PROGRAM [ARG]...

A program is a module of this folder whose ``scenarios(*args)`` gives functions by name.
"""

import importlib
import json
import logging
import os
import sys
import traceback

from tocsin.adapters import apscheduler as compat

side, program, *arguments = sys.argv[1:]
if side == "tocsin":
    compat.install()
logging.basicConfig(level=logging.ERROR)
module = importlib.import_module(program)
results = {}
for name, scenario in module.scenarios(*arguments).items():
    try:
        results[name] = scenario()
    except Exception:
        results[name] = {"failed": traceback.format_exc()}
files = {
    name: getattr(loaded, "__file__", None)
    for name, loaded in sys.modules.items()
    if name.partition(".")[0] == "apscheduler"
}
print(json.dumps({"results": results, "files": files}), flush=True)
if any("failed" in result for result in results.values() if isinstance(result, dict)):
    os._exit(0)  # what the scenario has left behind may run for ever
