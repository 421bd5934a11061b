//go:build !race

package balance

const racing = false
