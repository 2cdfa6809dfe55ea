//go:build !cgo || !libdeflate

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "libdeflate is not linked in: install libdeflate-dev and build with CGO_ENABLED=1 and -tags libdeflate")
	os.Exit(1)
}
