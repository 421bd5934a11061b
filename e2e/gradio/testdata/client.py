"""Drives a page with Gradio's own client: client.py URL.

Commands come as lines of JSON, {"do": "who", "text": "…"}, and are answered by
lines of JSON. Clients that keep no cookies name their session by a header.
"""

import concurrent.futures
import json
import sys
import time
import uuid

import gradio_client

session = {"X-Session": str(uuid.uuid4())}
cookies = int(gradio_client.__version__.split(".")[0]) >= 2
url = sys.argv[1]
if cookies:
    client = gradio_client.Client(url, verbose=False)
elif hasattr(gradio_client, "handle_file"):
    client = gradio_client.Client(url, headers=session, verbose=False)
else:  # Gradio 3
    client = gradio_client.Client(url, verbose=False)
    client.headers.update(session)


def upload(path):
    return gradio_client.handle_file(path) if hasattr(gradio_client, "handle_file") else path


def say(**answer):
    print(json.dumps(answer), flush=True)


say(version=gradio_client.__version__)
for line in sys.stdin:
    command = json.loads(line)
    try:
        if command["do"] == "stream":
            job = client.submit(command["text"], api_name="/stream")
            while not job.done() and len(job.outputs()) < 3:
                time.sleep(0.01)
            if not job.done():
                say(streaming=job.outputs()[2])
            # Not by iterating over the job, which never ends if that fails.
            job.result()
            say(answer=job.outputs()[-1], parts=len(job.outputs()))
        elif command["do"] == "size":
            say(answer=client.predict(upload(command["text"]), api_name="/size"))
        elif command["do"] == "count":
            say(answer=client.predict(api_name="/count"))
        else:
            say(answer=client.predict(command["text"], api_name="/" + command["do"]))
    except (Exception, concurrent.futures.CancelledError) as e:  # whatever the client thinks of
        say(error=f"{type(e).__name__}: {e}")
