// A reverse proxy of Go's standard library with a tuned transport: what many teams write themselves.
// Takes a file of JSON: {"bind": "127.0.0.1:1", "log": "" or a file, "routes": [{"prefix": "/r0/", "servers": ["127.0.0.1:2"]}]}.
package main

import (
	"bufio"
	"encoding/json"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type route struct {
	Prefix  string
	Servers []string
	next    atomic.Uint64
}

type config struct {
	Bind, Log string
	Routes    []*route
}

func (c *config) server(path string) string {
	for _, r := range c.Routes {
		if strings.HasPrefix(path, r.Prefix) {
			return r.Servers[r.next.Add(1)%uint64(len(r.Servers))]
		}
	}
	return ""
}

// buffers saves the 32 KiB that ReverseProxy would make for each response.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte  { return *b.pool.Get().(*[]byte) }
func (b *buffers) Put(s []byte) { b.pool.Put(&s) }

func main() {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	var c config
	if err := json.Unmarshal(text, &c); err != nil {
		log.Fatal(err)
	}
	made := func() any { b := make([]byte, 32<<10); return &b }
	var handler http.Handler = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", c.server(r.In.URL.Path)
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 4096,
			IdleConnTimeout:     time.Minute,
			DisableCompression:  true,
		},
		BufferPool: &buffers{sync.Pool{New: made}},
	}
	if c.Log != "" {
		handler = logged(handler, c.Log)
	}
	log.Fatal((&http.Server{Addr: c.Bind, Handler: handler, ReadHeaderTimeout: 10 * time.Second}).ListenAndServe())
}

func logged(next http.Handler, path string) http.Handler {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		log.Fatal(err)
	}
	var lock sync.Mutex
	lines := bufio.NewWriterSize(file, 32<<10)
	go func() {
		for range time.Tick(time.Second) {
			lock.Lock()
			lines.Flush()
			lock.Unlock()
		}
	}()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		lock.Lock()
		defer lock.Unlock()
		for _, s := range []string{r.RemoteAddr, " - - [", time.Now().Format("02/Jan/2006:15:04:05 -0700"), "] \"", r.Method, " ",
			r.URL.RequestURI(), " ", r.Proto, "\" \"", r.Referer(), "\" \"", r.UserAgent(), "\"\n"} {
			lines.WriteString(s)
		}
	})
}
