//go:build linux

package events_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// readers is the process of a benchmark's readers: ADDR TOKEN JOB READERS STUCK.
// It opens so many streams, and some more from which it never reads. It says
// "ready" when all have begun; then, for each number K on its input, it says
// "done P50 P99" (microseconds on the way) once every reader has K events.
func readers(args []string) int {
	addr, token, job := args[0], args[1], args[2]
	count, _ := strconv.Atoi(args[3])
	stuck, _ := strconv.Atoi(args[4])
	var begun sync.WaitGroup
	var total atomic.Int64
	var mu sync.Mutex
	var delays []time.Duration
	open := func() (net.Conn, error) {
		conn, err := (&net.Dialer{Timeout: 30 * time.Second}).Dial("tcp", addr)
		if err == nil {
			_, err = fmt.Fprintf(conn, "GET /v1/jobs/%s/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", job, token)
		}
		return conn, err
	}
	var faults atomic.Int64
	read := func() {
		first := sync.OnceFunc(begun.Done)
		defer first()
		conn, err := open()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			faults.Add(1)
			return
		}
		in := bufio.NewReaderSize(conn, 4096)
		var mine []time.Duration
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				if faults.Add(1) == 1 {
					fmt.Fprintln(os.Stderr, "a reader:", err)
				}
				return
			}
			if string(line) == ":\n" {
				first()
			}
			// Events of the benchmark say when they were made, in nanoseconds.
			_, after, ok := bytes.Cut(line, []byte(`"message":"at `))
			if !ok {
				continue
			}
			text, _, _ := bytes.Cut(after, []byte(`"`))
			at, _ := strconv.ParseInt(string(text), 10, 64)
			mine = append(mine, time.Duration(time.Now().UnixNano()-at))
			if len(mine) == 20 {
				mu.Lock()
				delays = append(delays, mine...)
				mu.Unlock()
				mine = mine[:0]
			}
			total.Add(1)
		}
	}
	slots := make(chan struct{}, 200) // connecting at a time
	for range count {
		begun.Add(1)
		slots <- struct{}{}
		go func() {
			time.AfterFunc(10*time.Millisecond, func() { <-slots })
			read()
		}()
	}
	for range stuck {
		if _, err := open(); err != nil {
			return 1
		}
	}
	begun.Wait()
	fmt.Println("ready", faults.Load())
	scan := bufio.NewScanner(os.Stdin)
	for scan.Scan() {
		k, _ := strconv.ParseInt(scan.Text(), 10, 64)
		for total.Load() < k*int64(count) && faults.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		mu.Lock()
		slices.Sort(delays)
		if len(delays) == 0 {
			delays = []time.Duration{0}
		}
		fmt.Println("done", faults.Load(), delays[len(delays)/2].Microseconds(), delays[len(delays)*99/100].Microseconds())
		delays = nil
		mu.Unlock()
	}
	return 0
}
