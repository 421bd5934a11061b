package loopback

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

const children = "LOOPBACK_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(children) != "" { // another process that needs ports, and lives until it is told to end
		for range 100 {
			addr, err := FreeAddr()
			if err != nil {
				panic(err)
			}
			fmt.Println(addr)
		}
		fmt.Println()
		_, _ = fmt.Scanln()
		return
	}
	os.Exit(m.Run())
}

func TestNoAddressIsGivenTwice(t *testing.T) {
	var mu sync.Mutex
	owner := make(map[string]string)
	add := func(who, addr string) {
		mu.Lock()
		defer mu.Unlock()
		if other, taken := owner[addr]; taken {
			t.Errorf("%s and %s have %s", other, who, addr)
		}
		owner[addr] = who
	}
	var wg sync.WaitGroup
	for i := range 4 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), children+"=1")
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
		wg.Go(func() {
			for {
				var addr string
				if _, err := fmt.Fscanln(stdout, &addr); addr == "" || err != nil && !strings.Contains(err.Error(), "newline") {
					return
				}
				add(fmt.Sprint("child ", i), addr)
			}
		})
	}
	for range 100 {
		addr, err := FreeAddr()
		if err != nil {
			t.Fatal(err)
		}
		add("parent", addr)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Error(err)
			continue
		}
		l.Close()
	}
	wg.Wait()
	if len(owner) != 500 {
		t.Errorf("%d addresses, want 500", len(owner))
	}
}
