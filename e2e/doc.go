// Package e2e tests the pages in a real browser. It is a module of its own so
// that the browser driver is no dependency of caddy-infer's users:
//
//	cd e2e && go test ./...
//
// Package failover, in a directory of its own, tests the binary while nodes fail,
// and package gradio with real servers of models behind it.
//
// The tests need a Chromium and are skipped where there is none. With
// E2E_SCREENSHOTS=<directory> they leave pictures of the pages there.
package e2e
