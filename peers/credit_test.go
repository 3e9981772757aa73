package peers

import (
	"errors"
	"testing"

	"github.com/clachanfs/clachan/peers/wire"
	"github.com/clachanfs/clachan/syncer/model"
)

// Who says to have changes of ever more replicas is refused before memory is full
// of them, however it says so.
func TestWhatAPeerSaysToHaveIsBounded(t *testing.T) {
	say := map[string]func(l link, k model.VV) wire.Message{
		"state": func(l link, k model.VV) wire.Message {
			return &wire.FolderState{Folder: l.r.id[:], Knowledge: k.Encode(), Epoch: l.theirs.epoch}
		},
		"ack": func(l link, k model.VV) wire.Message {
			return &wire.Ack{Folder: l.r.id[:], Has: k.Encode(), Epoch: l.theirs.epoch}
		},
		"catch-up": func(l link, k model.VV) wire.Message {
			return &wire.CatchUp{Folder: l.r.id[:], Knowledge: k.Encode(), Epoch: l.epoch}
		},
	}
	for name, message := range say {
		t.Run(name, func(t *testing.T) {
			g, ds, _ := mesh(t, "ana", "ben")
			s := ds[0].node.sessions()[0]
			s.mu.Lock()
			l := s.links[g.ID]
			is := link{r: l.r, epoch: l.epoch, theirs: l.theirs}
			s.mu.Unlock()
			var err error
			replica := model.Replica(1 << 20)
			for n := 0; n < 10 && err == nil; n++ {
				var k model.VV
				for range model.MaxReplicas {
					replica++
					k = append(k, model.Dot{Replica: replica, Seq: 1})
				}
				err = s.receive(message(is, k))
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if n := len(l.sentK); !errors.Is(err, errRefused) || n > 4*model.MaxReplicas {
				t.Errorf("%d replicas, %v", n, err)
			}
		})
	}
}
