// Parses a Dockerfile as BuildKit does, and prints what its linter says.
//
// Usage: dockerfile FILE
package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// What the linter says of a Dockerfile.
func lint(text []byte) (warnings []string, err error) {
	warn := func(rule, description, _, message string, location []parser.Range) {
		warnings = append(warnings, fmt.Sprintf("%s: %s (%s) %v", rule, message, description, location))
	}
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	for _, warning := range parsed.Warnings {
		warnings = append(warnings, warning.Short)
	}
	_, _, err = instructions.Parse(parsed.AST, linter.New(&linter.Config{Warn: warn}))
	return warnings, err
}

func main() {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		fail(err)
	}
	warnings, err := lint(text)
	if err != nil || len(warnings) > 0 {
		fail(err, warnings)
	}
	// It finds what is wrong.
	if warnings, err := lint(append(text, "\nMAINTAINER nobody\n"...)); err == nil && len(warnings) == 0 {
		fail("the linter finds nothing wrong with MAINTAINER")
	}
	fmt.Println("BuildKit's linter has nothing to say")
}

func fail(what ...any) {
	fmt.Fprintln(os.Stderr, append([]any{"error:"}, what...)...)
	os.Exit(1)
}
