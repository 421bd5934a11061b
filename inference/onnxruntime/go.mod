module github.com/caddy-infer/caddy-infer/inference/onnxruntime

go 1.26.0

require (
	github.com/caddy-infer/caddy-infer v0.0.0
	github.com/yalue/onnxruntime_go v1.32.0
	go.uber.org/goleak v1.3.0
)

require (
	github.com/edsrzf/mmap-go v1.2.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
)

replace github.com/caddy-infer/caddy-infer => ../..
