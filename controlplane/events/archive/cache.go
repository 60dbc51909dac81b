package archive

import (
	"container/list"
	"sync"
)

// cache keeps the values that were used last; each is made once, however many
// ask for it at a time. A value that could not be made is forgotten.
type cache[V any] struct {
	most int

	mu     sync.Mutex
	byKey  map[string]*list.Element // of *cached[V]
	recent *list.List               // front: used last
}

type cached[V any] struct {
	key   string
	once  sync.Once
	value V
	err   error
}

func newCache[V any](most int) *cache[V] {
	return &cache[V]{most: most, byKey: map[string]*list.Element{}, recent: list.New()}
}

func (c *cache[V]) get(key string, fill func() (V, error)) (V, error) {
	c.mu.Lock()
	e := c.byKey[key]
	if e == nil {
		e = c.recent.PushFront(&cached[V]{key: key})
		c.byKey[key] = e
		for c.recent.Len() > c.most {
			last := c.recent.Back()
			c.recent.Remove(last)
			delete(c.byKey, last.Value.(*cached[V]).key)
		}
	} else {
		c.recent.MoveToFront(e)
	}
	c.mu.Unlock()
	v := e.Value.(*cached[V])
	v.once.Do(func() { v.value, v.err = fill() })
	if v.err != nil {
		c.mu.Lock()
		if c.byKey[key] == e {
			delete(c.byKey, key)
			c.recent.Remove(e)
		}
		c.mu.Unlock()
	}
	return v.value, v.err
}
