package handover

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"reflect"
)

// A chain is a listener with the listeners it wraps: Caddy's own at the bottom,
// above it those of other wrappers and of TLS. Every wrapper in Caddy, in
// crypto/tls and in go-proxyproto keeps the listener below in a field named
// Listener; one that does not is taken for the bottom.
type chain struct {
	bottom net.Listener
	holder reflect.Value // the field that holds the bottom; invalid if the bottom is all there is
	tls    bool          // its connections are *tls.Conn
}

var (
	tlsListener = reflect.TypeOf(tls.NewListener(nil, nil))
	anyListener = reflect.TypeFor[net.Listener]()
)

func chainOf(l net.Listener) chain {
	c := chain{bottom: l}
	for {
		v := reflect.ValueOf(c.bottom)
		c.tls = c.tls || v.Type() == tlsListener
		if v.Kind() != reflect.Pointer {
			return c
		}
		field := below(v.Elem())
		if !field.IsValid() || !field.CanSet() {
			return c
		}
		c.bottom, c.holder = field.Interface().(net.Listener), field
	}
}

// below returns the field Listener of a struct, invalid if it has none.
func below(v reflect.Value) reflect.Value {
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	field, ok := v.Type().FieldByName("Listener")
	if !ok || len(field.Index) != 1 || field.Type != anyListener || v.FieldByIndex(field.Index).IsNil() {
		return reflect.Value{}
	}
	return v.FieldByIndex(field.Index)
}

// replaceBottom puts another listener below everything and returns the new top.
func (c chain) replaceBottom(top, bottom net.Listener) net.Listener {
	if !c.holder.IsValid() {
		return bottom
	}
	c.holder.Set(reflect.ValueOf(bottom))
	return top
}

// osListener is a listening socket of the operating system: *net.TCPListener
// and *net.UnixListener.
type osListener interface {
	net.Listener
	File() (*os.File, error)
}

var errNoSocket = errors.New("the listener is no socket of the operating system")

// socketOf returns the socket below Caddy's listener, which wraps it by value.
func socketOf(l net.Listener) (osListener, error) {
	for {
		if s, ok := l.(osListener); ok {
			return s, nil
		}
		field := below(reflect.ValueOf(l))
		if !field.IsValid() {
			return nil, errNoSocket
		}
		l = field.Interface().(net.Listener)
	}
}

// ofOurs returns our connection below what Caddy made of it, nil if there is
// none. Caddy wraps connections in structs that embed net.Conn.
func ofOurs(nc net.Conn) *conn {
	for {
		switch c := nc.(type) {
		case *conn:
			return c
		case tlsConn:
			return c.conn
		}
		v := reflect.ValueOf(nc)
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return nil
		}
		field := v.FieldByName("Conn")
		if !field.IsValid() || !field.CanInterface() {
			return nil
		}
		var ok bool
		if nc, ok = reflect.TypeAssert[net.Conn](field); !ok || nc == nil {
			return nil
		}
	}
}
