// Package gradio tests real servers behind the real binary: Gradio pages as two
// nodes, driven by Gradio's own client and by a browser, and models under
// PyTorch, Flask and gunicorn, under load, while nodes die and come back and the
// configuration is reloaded.
//
// GRADIO_PYTHONS names the Pythons that have Gradio, with : between them, each
// from an environment made with one of .ci/gradio*.txt. The tests are skipped
// where there is none.
package gradio
