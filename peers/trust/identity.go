package trust

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const identityHeader = "clachan-device-key-1"

// An Identity is this device's key.
type Identity struct{ key ed25519.PrivateKey }

// NewIdentity returns a fresh identity that is kept nowhere.
func NewIdentity() (*Identity, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("generate device key: %w", err)
	}
	return &Identity{key}, nil
}

// Key returns the private key.
func (i *Identity) Key() ed25519.PrivateKey { return i.key }

// Public returns the public key.
func (i *Identity) Public() ed25519.PublicKey { return i.key.Public().(ed25519.PublicKey) }

// PeerID returns the libp2p peer ID.
func (i *Identity) PeerID() string { return PeerID(i.Public()) }

// LoadIdentity reads the device key at path, or makes one there.
func LoadIdentity(path string) (*Identity, error) {
	id, err := readIdentity(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := createIdentity(path); err != nil {
			return nil, fmt.Errorf("create %w %s: %w", ErrIdentity, path, err)
		}
		id, err = readIdentity(path)
	}
	if err != nil {
		return nil, fmt.Errorf("load %w %s: %w", ErrIdentity, path, err)
	}
	return id, nil
}

func readIdentity(path string) (*Identity, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case st.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("mode is %04o, other users can read it: chmod 600 it if you know nobody did, else delete it and join again",
			st.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return nil, err
	}
	text, ok := strings.CutPrefix(strings.TrimSpace(string(b)), identityHeader+" ")
	if !ok {
		return nil, errors.New("not a device key")
	}
	seed, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("damaged device key")
	}
	return &Identity{ed25519.NewKeyFromSeed(seed)}, nil
}

// createIdentity writes a new key beside path and links it into place, so that
// path is a whole key or absent, and an existing key is never replaced.
func createIdentity(path string) error {
	id, err := NewIdentity()
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".identity-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintf(f, "%s %s\n", identityHeader, base64.StdEncoding.EncodeToString(id.key.Seed()))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
