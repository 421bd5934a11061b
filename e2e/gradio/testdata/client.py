"""Drives a page with Gradio's own client: client.py URL.

Commands come as lines of JSON, {"do": "who", "text": "…"}, and are answered by
lines of JSON. Clients that keep no cookies name their session by a header.
"""

import json
import sys
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
            parts = []
            for part in client.submit(command["text"], api_name="/stream"):
                parts.append(part)
                if len(parts) == 3:
                    say(streaming=part)
            say(answer=parts[-1], parts=len(parts))
        elif command["do"] == "size":
            say(answer=client.predict(upload(command["text"]), api_name="/size"))
        elif command["do"] == "count":
            say(answer=client.predict(api_name="/count"))
        else:
            say(answer=client.predict(command["text"], api_name="/" + command["do"]))
    except Exception as e:  # whatever the client thinks of
        say(error=f"{type(e).__name__}: {e}")
