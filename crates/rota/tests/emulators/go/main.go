// An emulator of Google Cloud Storage on a free loopback port: fake-gcs-server, with the one thing that it lacks.
//
// The XML API's plain PUT of an object is handed on as the JSON API's upload, which means the same. The address is the
// only line that is printed. The program ends when its standard input does, so that it never outlives the test.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"

	"github.com/fsouza/fake-gcs-server/fakestorage"
)

func main() {
	bucket, token := os.Args[1], os.Args[2]
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server, err := fakestorage.NewServerWithOptions(fakestorage.Options{
		NoListener: true,
		Scheme:     "http",
		PublicHost: listener.Addr().String(),
		Writer:     io.Discard,
	})
	if err != nil {
		log.Fatal(err)
	}
	server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: bucket})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Printf("http://%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, front{server.HTTPHandler(), "Bearer " + token}))
}

type front struct {
	behind        http.Handler
	authorization string
}

func (f front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != f.authorization {
		http.Error(w, "the bearer token is not the one that was asked for", http.StatusUnauthorized)
		return
	}
	if r.Method == http.MethodPut {
		f.put(w, r)
		return
	}
	f.behind.ServeHTTP(w, r)
}

func (f front) put(w http.ResponseWriter, r *http.Request) {
	bucket, object, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	query := url.Values{"uploadType": {"media"}, "name": {object}}
	target := fmt.Sprintf("/upload/storage/v1/b/%s/o?%s", url.PathEscape(bucket), query.Encode())
	upload := httptest.NewRequest(http.MethodPost, target, bytes.NewReader(body))
	upload.Host = r.Host
	recorder := httptest.NewRecorder()
	f.behind.ServeHTTP(recorder, upload)
	var stored struct {
		Etag       string
		Generation string
	}
	if recorder.Code == http.StatusOK && json.Unmarshal(recorder.Body.Bytes(), &stored) == nil {
		w.Header().Set("ETag", stored.Etag)
		w.Header().Set("x-goog-generation", stored.Generation)
		w.WriteHeader(http.StatusOK)
		return
	}
	w.WriteHeader(recorder.Code)
	_, _ = w.Write(recorder.Body.Bytes())
}
