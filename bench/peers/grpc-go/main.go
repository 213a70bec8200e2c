// grpc-go: a server alone, which tonic's client calls. It shows what another mature gRPC server takes for the same calls.
//
// As the other peers do, it prints its address, serves until its stdin closes, and then prints what it has had.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"peer-grpc-go/kv"
	"peer-grpc-go/watch"
)

// The windows of the other gRPC peers.
const (
	streamWindow     = 4 << 20
	connectionWindow = 16 << 20
)

type entry struct {
	index uint32
	value []byte
}

// store is the map of the harness, with the classes of values that gRPC's scenarios use.
type store struct {
	entries map[string]entry
	tally   atomic.Uint64
}

func filled() *store {
	s := &store{entries: map[string]entry{}}
	classes := []struct {
		prefix    string
		keys, len int
	}{{"s", 10_000, 64}, {"m", 64, 64 << 10}}
	for _, class := range classes {
		for index := range class.keys {
			value := bytes.Repeat([]byte{0x5a}, class.len)
			binary.LittleEndian.PutUint32(value, uint32(index))
			s.entries[fmt.Sprintf("%s/key-%08d", class.prefix, index)] = entry{uint32(index), value}
		}
	}
	return s
}

func (s *store) value(key string) ([]byte, error) {
	found, ok := s.entries[key]
	if !ok {
		return nil, status.Error(codes.NotFound, "no such key")
	}
	return found.value, nil
}

// put counts a message: the low bits count, the high bits add key numbers.
func (s *store) put(put *kv.PutRequest) error {
	found, ok := s.entries[put.GetKey()]
	if !ok || len(found.value) != len(put.GetValue()) {
		return status.Error(codes.InvalidArgument, "a message for an unknown key")
	}
	s.tally.Add(uint64(found.index)<<32 | 1)
	return nil
}

type kvServer struct {
	kv.UnimplementedKvServer
	store *store
}

func (s kvServer) Fetch(_ context.Context, request *kv.FetchRequest) (*kv.FetchResponse, error) {
	value, err := s.store.value(request.GetKey())
	if err != nil {
		return nil, err
	}
	return &kv.FetchResponse{Value: value}, nil
}

func (s kvServer) PutMany(puts grpc.ClientStreamingServer[kv.PutRequest, kv.PutSummary]) error {
	var count uint64
	for {
		put, err := puts.Recv()
		if err == io.EOF {
			return puts.SendAndClose(&kv.PutSummary{Count: count})
		}
		if err == nil {
			err = s.store.put(put)
		}
		if err != nil {
			return err
		}
		count++
	}
}

type watchServer struct {
	watch.UnimplementedWatcherServer
	store *store
}

func (s watchServer) Watch(request *watch.WatchRequest, replies grpc.ServerStreamingServer[watch.WatchReply]) error {
	value, err := s.store.value(request.GetKey())
	if err != nil {
		return err
	}
	reply := &watch.WatchReply{Value: value}
	for range request.GetCount() {
		if err := replies.Send(reply); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	if len(os.Args) != 2 || os.Args[1] != "server" {
		fmt.Fprintln(os.Stderr, "usage: peer-grpc-go server")
		os.Exit(2)
	}
	// As many workers as the other peers have.
	runtime.GOMAXPROCS(2)
	store := filled()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := grpc.NewServer(
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connectionWindow),
	)
	kv.RegisterKvServer(server, kvServer{store: store})
	watch.RegisterWatcherServer(server, watchServer{store: store})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		fmt.Printf("{\"tally\":%d}\n", store.tally.Load())
		os.Exit(0)
	}()
	fmt.Printf("ADDR %s\n", listener.Addr())
	if err := server.Serve(listener); err != nil {
		panic(err)
	}
}
