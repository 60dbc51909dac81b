package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// ConnectedClients is how many clients Redis says are connected to it; of a
// cluster, to the node that answered.
func (l *Log) ConnectedClients(ctx context.Context) (int, error) {
	text, err := l.client.Info(ctx, "clients").Result()
	if err != nil {
		return 0, l.fault("ask for its clients", err)
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "connected_clients:"); ok {
			n, err := strconv.Atoi(value)
			if err != nil {
				return 0, fmt.Errorf("redis: connected_clients is %q: %w", value, err)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("redis: INFO clients names no connected_clients")
}
