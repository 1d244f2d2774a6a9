"""Images that the tests on a cluster start pods from; its nodes must have them."""

import os

BASE = os.environ.get("TEST_BASE_IMAGE", "localhost/python:3.11-slim-bookworm")
TASKS = os.environ.get("TEST_TASKS_IMAGE", "localhost/trusted-retraining/tasks:e2e-cpu")
SERVING = os.environ.get("TEST_SERVING_IMAGE", "localhost/trusted-retraining/serving:e2e-cpu")
