// A node of Serf's library in a cluster that a label keeps apart from others; no agent of Serf has a flag for it.
//
//	serf-label NAME ADDRESS LABEL KEY [SEED]
//
// KEY is base64, or empty. It prints what happens, and does what lines of its stdin say: event NAME PAYLOAD, query NAME.
package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/hashicorp/serf/serf"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func main() {
	name, address, label, key := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	host, port, err := net.SplitHostPort(address)
	must(err)
	number, err := strconv.Atoi(port)
	must(err)
	events := make(chan serf.Event, 256)
	config := serf.DefaultConfig()
	config.Init()
	config.NodeName = name
	config.EventCh = events
	// What an agent speaks.
	config.ProtocolVersion = 5
	config.MemberlistConfig.BindAddr = host
	config.MemberlistConfig.BindPort = number
	config.MemberlistConfig.AdvertisePort = number
	config.MemberlistConfig.Label = label
	config.LogOutput = os.Stderr
	config.MemberlistConfig.LogOutput = os.Stderr
	if key != "" {
		config.MemberlistConfig.SecretKey, err = base64.StdEncoding.DecodeString(key)
		must(err)
	}
	node, err := serf.Create(config)
	must(err)
	if len(os.Args) > 5 {
		_, err = node.Join([]string{os.Args[5]}, false)
		must(err)
	}
	fmt.Println("ready")
	go func() {
		for event := range events {
			switch event := event.(type) {
			case serf.MemberEvent:
				for _, member := range event.Members {
					fmt.Println(event.Type, member.Name)
				}
			case serf.UserEvent:
				fmt.Println("user", event.Name, string(event.Payload))
			case *serf.Query:
				_ = event.Respond([]byte("answer of " + name))
			}
		}
	}()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "event":
			must(node.UserEvent(words[1], []byte(words[2]), false))
		case "query":
			answers, err := node.Query(words[1], nil, nil)
			must(err)
			for answer := range answers.ResponseCh() {
				fmt.Println("answer", answer.From, string(answer.Payload))
			}
			fmt.Println("answered")
		}
	}
	must(node.Leave())
	must(node.Shutdown())
}
