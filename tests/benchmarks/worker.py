"""A worker that imports only what an application of its kind needs, and prints how much memory it takes.

Run as `python -c <this text> FOLDER URL APPLICATION LIBRARIES`: LIBRARIES are modules to import, separated by commas.
"shipper" is also started. The worker prints, in bytes, its RSS and the part of it that no other process shares.
"""

from __future__ import annotations

import logging
import os
import sys

_, folder, url, application, libraries = sys.argv
if application == "FastAPI":
    __import__("fastapi")
    __import__("uvicorn.server")
    __import__("uvicorn.config")

for name in filter(None, libraries.split(",")):
    __import__(name)
logger = logging.getLogger("bench")
logger.setLevel(logging.INFO)
logger.propagate = False
if libraries == "shipper":
    import shipper

    trakerr, jkool = shipper.Trakerr("key", url=f"{url}/api/v1", level=logging.INFO), shipper.JKool("token", url=url)
    shipper.start(trakerr, jkool, app="bench", spool=os.path.join(folder, "spool"), logger="bench")
logger.addHandler(logging.FileHandler(os.path.join(folder, "plain.log")))
for number in range(2000):
    logger.info("order %d for %s in %.2f ms", number, "x", 1.0, extra={"amount": 1.0, "region": "eu-1"})
with open("/proc/self/smaps_rollup") as file:
    sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in file if line.endswith("kB\n")}
print(sizes["Rss:"], sizes["Private_Clean:"] + sizes["Private_Dirty:"])
