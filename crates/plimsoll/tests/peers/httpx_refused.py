"""httpx against a base URL that serves nothing under its own host: prints the status and the reason it is given."""

import json
import sys

import httpx

answer = httpx.Client(trust_env=False).get(sys.argv[1], headers={"Accept": "application/json"})
print(json.dumps([answer.status_code, answer.json()["reason"]]))
