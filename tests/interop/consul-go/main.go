// Drives a registry through Consul's own Go client: go run . HOST:PORT [TOKEN]. Prints "ok" at the end.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/hashicorp/consul/api"
)

func check(what string, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, what+":", err)
		os.Exit(1)
	}
}

func expect(what string, got, want any) {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		check(what, fmt.Errorf("got %v, want %v", got, want))
	}
}

func ports(entries []*api.ServiceEntry) (ports []int) {
	for _, entry := range entries {
		ports = append(ports, entry.Service.Port)
	}
	sort.Ints(ports)
	return
}

func main() {
	config := &api.Config{Address: os.Args[1]}
	if len(os.Args) > 2 {
		config.Token = os.Args[2]
	}
	client, err := api.NewClient(config)
	check("client", err)
	agent, health := client.Agent(), client.Health()

	for _, port := range []int{5001, 5002} {
		check("register", agent.ServiceRegister(&api.AgentServiceRegistration{
			ID: fmt.Sprintf("greeter-%d", port), Name: "demo.Greeter", Address: "10.0.0.1", Port: port,
			Tags: []string{"v1"}, Meta: map[string]string{"scheme": "grpc"},
			Check: &api.AgentServiceCheck{TTL: "30s", DeregisterCriticalServiceAfter: "1m"},
		}))
	}
	entries, meta, err := health.Service("demo.Greeter", "v1", false, nil)
	check("health", err)
	expect("both are known", ports(entries), []int{5001, 5002})
	expect("they are critical at first", entries[0].Checks.AggregatedStatus(), "critical")
	check("pass", agent.UpdateTTL("service:greeter-5001", "fine", "pass"))
	entries, _, err = health.Service("demo.Greeter", "", true, nil)
	check("health", err)
	expect("one passes", ports(entries), []int{5001})
	expect("its meta", entries[0].Service.Meta["scheme"], "grpc")

	// A blocking query of a name is woken by the change.
	_, meta, err = health.Service("demo.Greeter", "", true, nil)
	check("health", err)
	woken := make(chan []int)
	go func() {
		entries, _, err := health.Service("demo.Greeter", "", true, &api.QueryOptions{WaitIndex: meta.LastIndex})
		check("blocking query", err)
		woken <- ports(entries)
	}()
	check("pass", agent.UpdateTTL("service:greeter-5002", "fine", "pass"))
	expect("woken", <-woken, []int{5001, 5002})

	services, _, err := client.Catalog().Services(nil)
	check("catalog", err)
	expect("tags", services["demo.Greeter"], []string{"v1"})
	known, err := agent.Services()
	check("services", err)
	expect("agent", known["greeter-5001"].Port, 5001)
	state, _, err := health.State("passing", nil)
	check("state", err)
	passing := 0
	for _, known := range state {
		// Consul itself also checks its node.
		if known.ServiceName == "demo.Greeter" {
			passing++
		}
	}
	expect("passing checks", passing, 2)
	for _, id := range []string{"greeter-5001", "greeter-5002"} {
		check("deregister", agent.ServiceDeregister(id))
	}
	entries, _, err = health.Service("demo.Greeter", "", false, nil)
	check("health", err)
	expect("nothing is left", len(entries), 0)
	err = agent.UpdateTTL("service:greeter-5001", "", "pass")
	if err == nil || !strings.Contains(err.Error(), "404") {
		check("renewal of nothing", fmt.Errorf("got %v, want 404", err))
	}
	fmt.Println("ok")
}
