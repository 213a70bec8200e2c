// Command naming lists, adds and deletes servers of the service "orders" by gRPC-Go's naming package of etcd.
//
// Usage: naming HOST:PORT list | add ADDRESS | delete ADDRESS
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Args[1]}, DialTimeout: 20 * time.Second})
	check(err)
	defer client.Close()
	manager, err := endpoints.NewManager(client, "orders")
	check(err)
	switch os.Args[2] {
	case "list":
		all, err := manager.List(ctx)
		check(err)
		var lines []string
		for _, endpoint := range all {
			metadata, err := json.Marshal(endpoint.Metadata)
			check(err)
			lines = append(lines, fmt.Sprintf("%s %s", endpoint.Addr, metadata))
		}
		sort.Strings(lines)
		for _, line := range lines {
			fmt.Println(line)
		}
	case "add":
		check(manager.AddEndpoint(ctx, "orders/"+os.Args[3], endpoints.Endpoint{Addr: os.Args[3]}))
	case "delete":
		check(manager.DeleteEndpoint(ctx, "orders/"+os.Args[3]))
	}
}
