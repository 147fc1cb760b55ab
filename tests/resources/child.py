"""Children that end in each way in which a measuring process can: `python -m tests.resources.child JOB RESULT PARENT`."""

import json
import os
import signal
import sys
import time
from pathlib import Path

if not Path(sys.argv[1]).is_file():
    sys.stdin.read()
job = json.loads(Path(sys.argv[1]).read_text())
if job["how"] == "answer":
    Path(sys.argv[2]).write_text(json.dumps({"pid": os.getpid(), "parent": int(sys.argv[3])}))
elif job["how"] == "problem":
    Path(sys.argv[2]).write_text(json.dumps({"problem": "ValueError: no"}))
elif job["how"] == "half":
    Path(sys.argv[2]).write_text('{"pid": ')
elif job["how"] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
elif job["how"] == "crash":
    os.abort()
elif job["how"] == "hang":
    time.sleep(600)
