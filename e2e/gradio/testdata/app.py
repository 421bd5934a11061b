"""A Gradio page as a model node: app.py NAME PORT. It answers with its name."""

import os
import sys
import time

import gradio as gr

name, port = sys.argv[1], int(sys.argv[2])


def who(text):
    return f"{name}: {text}"


def stream(text):
    for i in range(30):
        time.sleep(0.1)
        yield f"{name} {i}: {text}"


def size(file):
    path = file if isinstance(file, str) else file.name
    return f"{name}: {os.path.getsize(path)} bytes"


def count(seen):
    return seen + 1, f"{name}: {seen + 1}"


with gr.Blocks() as page:
    text = gr.Textbox(label="Text", elem_id="text")
    answer = gr.Textbox(label="Answer", elem_id="answer")
    seen = gr.State(0)
    gr.Button("Who", elem_id="who").click(who, text, answer, api_name="who")
    gr.Button("Stream", elem_id="stream").click(stream, text, answer, api_name="stream")
    gr.Button("Count", elem_id="count").click(count, seen, [seen, answer], api_name="count")
    file = gr.File(label="File", elem_id="file")
    file.upload(size, file, answer, api_name="size")

page.queue()
page.launch(server_name="127.0.0.1", server_port=port, quiet=True)
