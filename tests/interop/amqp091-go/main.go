// Uses the broker at a URL with amqp091-go, as programs in Go do. Prints what it saw.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const deadline = 60 * time.Second

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func check(holds bool, said string, words ...any) {
	if !holds {
		log.Fatalf(said, words...)
	}
}

func channel(connection *amqp.Connection) *amqp.Channel {
	return must(connection.Channel())
}

func own(channel *amqp.Channel, arguments amqp.Table) string {
	return must(channel.QueueDeclare("", false, false, true, false, arguments)).Name
}

// Publishes with confirms from several goroutines, takes with several consumers.
func work(ctx context.Context, connection *amqp.Connection) {
	const count, publishers = 1000, 4
	name := own(channel(connection), nil)
	var publishing sync.WaitGroup
	for p := 0; p < publishers; p++ {
		publishing.Add(1)
		go func(p int) {
			defer publishing.Done()
			ch := channel(connection)
			check(ch.Confirm(false) == nil, "no confirms")
			for n := p; n < count; n += publishers {
				message := amqp.Publishing{
					DeliveryMode: amqp.Persistent,
					MessageId:    fmt.Sprint(n),
					Headers:      amqp.Table{"n": int64(n), "deep": amqp.Table{"list": []any{int32(1), "two", nil}}},
					Body:         []byte(fmt.Sprint(n)),
				}
				confirm := must(ch.PublishWithDeferredConfirmWithContext(ctx, "", name, true, false, message))
				check(must(confirm.WaitContext(ctx)), "nacked")
			}
		}(p)
	}
	publishing.Wait()
	var lock sync.Mutex
	seen := map[string]bool{}
	done := make(chan struct{})
	for c := 0; c < 3; c++ {
		ch := channel(connection)
		check(ch.Qos(20, 0, false) == nil, "no qos")
		deliveries := must(ch.Consume(name, fmt.Sprint("c", c), false, false, false, false, nil))
		go func() {
			for delivery := range deliveries {
				check(delivery.Headers["n"] == must(parse(delivery.MessageId)), "%v", delivery.Headers)
				check(delivery.Ack(false) == nil, "not acknowledged")
				lock.Lock()
				check(!seen[delivery.MessageId], "%s twice", delivery.MessageId)
				seen[delivery.MessageId] = true
				if len(seen) == count {
					close(done)
				}
				lock.Unlock()
			}
		}()
	}
	select {
	case <-done:
	case <-ctx.Done():
		log.Fatalf("%d of %d came", len(seen), count)
	}
}

func parse(text string) (int64, error) {
	var number int64
	_, err := fmt.Sscan(text, &number)
	return number, err
}

func returns(ctx context.Context, connection *amqp.Connection) {
	ch := channel(connection)
	check(ch.Confirm(false) == nil, "no confirms")
	returned := ch.NotifyReturn(make(chan amqp.Return, 1))
	confirmed := ch.NotifyPublish(make(chan amqp.Confirmation, 1))
	check(ch.PublishWithContext(ctx, "", "nobody", true, false, amqp.Publishing{Body: []byte("back")}) == nil, "publish")
	back := <-returned
	check(back.ReplyCode == amqp.NoRoute && string(back.Body) == "back", "%v", back)
	check((<-confirmed).Ack, "nacked")
}

func failures(_ context.Context, connection *amqp.Connection) {
	ch := channel(connection)
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	_, err := ch.QueueDeclarePassive("go-missing", false, false, false, false, nil)
	var failure *amqp.Error
	check(errors.As(err, &failure) && failure.Code == 404, "%v", err)
	check(strings.Contains(failure.Reason, "no queue 'go-missing' in vhost '/'"), "%s", failure.Reason)
	check((<-closed).Code == 404, "not told")
	// The connection lives on.
	own(channel(connection), nil)
	_, err = amqp.Dial(strings.Replace(os.Args[1], "guest:guest", "guest:wrong", 1))
	check(errors.As(err, &failure) && failure.Code == 403, "%v", err)
}

func transactions(ctx context.Context, connection *amqp.Connection) {
	ch := channel(connection)
	name := own(ch, nil)
	check(ch.Tx() == nil, "no transaction")
	publish := func(body string) {
		check(ch.PublishWithContext(ctx, "", name, false, false, amqp.Publishing{Body: []byte(body)}) == nil, "publish")
	}
	publish("gone")
	check(ch.TxRollback() == nil, "no rollback")
	publish("kept")
	check(ch.TxCommit() == nil, "no commit")
	message, found, err := ch.Get(name, true)
	check(err == nil && found && string(message.Body) == "kept", "%v %v", message, err)
}

func cancels(_ context.Context, connection *amqp.Connection) {
	ch := channel(connection)
	must(ch.QueueDeclare("go-gone", false, false, false, false, nil))
	deliveries := must(ch.Consume("go-gone", "left", false, false, false, false, nil))
	cancelled := ch.NotifyCancel(make(chan string, 1))
	must(channel(connection).QueueDelete("go-gone", false, false, false))
	check(<-cancelled == "left", "another")
	_, more := <-deliveries
	check(!more, "it goes on")
}

// Bodies of many frames, in frames as small as they may be.
func frames(ctx context.Context, _ *amqp.Connection) {
	connection := must(amqp.DialConfig(os.Args[1], amqp.Config{FrameSize: 4096, ChannelMax: 2, Heartbeat: time.Second}))
	defer connection.Close()
	ch := channel(connection)
	name := own(ch, nil)
	body := []byte(strings.Repeat("0123456789", 200_000))
	check(ch.PublishWithContext(ctx, "", name, false, false, amqp.Publishing{Body: body}) == nil, "publish")
	deliveries := must(ch.Consume(name, "", true, false, false, false, nil))
	check(string((<-deliveries).Body) == string(body), "another body")
}

func main() {
	log.SetFlags(log.Lshortfile)
	ctx, stop := context.WithTimeout(context.Background(), deadline)
	defer stop()
	connection := must(amqp.Dial(os.Args[1]))
	parts := []struct {
		name string
		run  func(context.Context, *amqp.Connection)
	}{
		{"work", work}, {"returns", returns}, {"failures", failures}, {"transactions", transactions},
		{"cancels", cancels}, {"frames", frames},
	}
	for _, part := range parts {
		part.run(ctx, connection)
		fmt.Println(part.name)
	}
	check(connection.Close() == nil, "no answer to the close")
}
