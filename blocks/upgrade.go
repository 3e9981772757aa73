package blocks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// upgradeFile is there while the directory may be neither in the old format nor
// in the new one.
const upgradeFile = "upgrade"

// An upgrade says what is being done, and where the directory is as it was.
type upgrade struct {
	stage      string // stepping or restoring
	from, to   int
	checkpoint string // below checkpoints
}

const (
	stepping  = "stepping"
	restoring = "restoring"
)

// lastFormat is the format that steps lead to.
func lastFormat(steps []Step) int {
	if len(steps) == 0 {
		return Format
	}
	return steps[len(steps)-1].To
}

// way returns the steps that lead from a format to the last one.
func way(steps []Step, from int) ([]Step, error) {
	var out []Step
	for at := from; at != lastFormat(steps); at = out[len(out)-1].To {
		i := slices.IndexFunc(steps, func(s Step) bool { return s.From == at })
		if i < 0 || steps[i].To <= at {
			return nil, fmt.Errorf("no step leads on from format %d: start a clachan in between first", at)
		}
		out = append(out, steps[i])
	}
	return out, nil
}

// upgrade takes a directory to the format of this program. It is kept as it was
// in a checkpoint, from which it is put back if that fails, at once or when it is
// opened again.
func (d *Disk) upgrade(from int, o DiskOptions) (err error) {
	steps, err := way(o.Steps, from)
	if err != nil {
		return err
	}
	u := upgrade{stepping, from, d.format, fmt.Sprintf("%d-%s", from, time.Now().UTC().Format(stampLayout))}
	d.log.Info("upgrading the data", "from", u.from, "to", u.to, "checkpoint", d.checkpointDir(u.checkpoint))
	if err := d.room.check(); err != nil {
		return err
	}
	if err := d.openOld(o); err != nil {
		return errors.Join(err, d.closeDBs())
	}
	err = d.Checkpoint(context.Background(), d.checkpointDir(u.checkpoint))
	if err == nil {
		err = d.setUpgrade(u)
	}
	if err != nil {
		return errors.Join(err, d.closeDBs())
	}
	if err := errors.Join(d.step(steps), d.closeDBs()); err != nil {
		return errors.Join(err, d.restore(u))
	}
	return d.clearUpgrade()
}

// openOld opens the databases in the formats of Pebble they have.
func (d *Disk) openOld(o DiskOptions) error {
	meta, err := d.peek("meta")
	if err != nil {
		return err
	}
	packs, err := d.peek("blocks")
	if err != nil {
		return err
	}
	if !packs.Exists { // lost
		packs.FormatMajorVersion = meta.FormatMajorVersion
	}
	if err := d.openMeta(o, meta.FormatMajorVersion); err != nil {
		return err
	}
	return d.openBlocks(o, packs.FormatMajorVersion)
}

// step takes the steps, and then writes the format, which makes all durable that
// was written to meta before.
func (d *Disk) step(steps []Step) error {
	old := &Old{FS: d.fs, Dir: d.dir, Meta: d.meta, Blocks: d.blocks}
	for _, s := range steps {
		if err := s.Do(old); err != nil {
			return err
		}
	}
	if err := d.blocks.LogData(nil, pebble.Sync); err != nil {
		return fmt.Errorf("sync blocks: %w", err)
	}
	return d.writeFormat()
}

func (d *Disk) writeFormat() error {
	if err := d.meta.Set(formatKey, []byte{byte(d.format)}, pebble.Sync); err != nil {
		return fmt.Errorf("write format: %w", err)
	}
	return nil
}

// resume ends what a crash has cut short: the directory is as it was before the
// upgrade, or all of that was done.
func (d *Disk) resume() error {
	u, err := d.readUpgrade()
	if err != nil || u == nil {
		return err
	}
	if err := d.known(u.from); err != nil {
		return err
	}
	if u.stage == stepping {
		format, err := d.checkFormat()
		if err != nil {
			return err
		}
		if format == u.to {
			return d.clearUpgrade()
		}
	}
	d.log.Warn("an upgrade was cut short: the data is put back as it was", "checkpoint", d.checkpointDir(u.checkpoint))
	return d.restore(*u)
}

// restore puts the directory back as it was before an upgrade.
func (d *Disk) restore(u upgrade) error {
	u.stage = restoring
	if err := d.setUpgrade(u); err != nil {
		return err
	}
	from := d.checkpointDir(u.checkpoint)
	names, err := d.fs.List(from) // another version may have known of more
	if err != nil {
		return fmt.Errorf("look at checkpoint: %w", err)
	}
	for _, name := range append(names, d.beside...) {
		if err := replace(d.fs, d.fs.PathJoin(from, name), d.fs.PathJoin(d.dir, name)); err != nil {
			return fmt.Errorf("put back %s: %w", name, err)
		}
	}
	if err := syncDir(d.fs, d.dir); err != nil {
		return err
	}
	if err := d.clearUpgrade(); err != nil {
		return err
	}
	return d.fs.RemoveAll(from)
}

// readUpgrade returns nil when none is under way.
func (d *Disk) readUpgrade() (*upgrade, error) {
	f, err := d.fs.Open(d.fs.PathJoin(d.dir, upgradeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for an upgrade: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, 256))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("look for an upgrade: %w", err)
	}
	var u upgrade
	if _, err := fmt.Sscanf(string(text), "%s %d %d %s\n", &u.stage, &u.from, &u.to, &u.checkpoint); err != nil {
		return nil, fmt.Errorf("%w: an upgrade in progress: %q", ErrNewerFormat, text)
	}
	return &u, nil
}

// setUpgrade writes the file beside its place, as it is whole or not there.
func (d *Disk) setUpgrade(u upgrade) error {
	name := d.fs.PathJoin(d.dir, upgradeFile)
	f, err := d.fs.Create(name+tempSuffix, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("begin upgrade: %w", err)
	}
	_, err = fmt.Fprintf(f, "%s %d %d %s\n", u.stage, u.from, u.to, u.checkpoint)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = d.fs.Rename(name+tempSuffix, name)
	}
	if err = errors.Join(err, syncDir(d.fs, d.dir)); err != nil {
		return fmt.Errorf("begin upgrade: %w", err)
	}
	return nil
}

func (d *Disk) clearUpgrade() error {
	if err := d.fs.Remove(d.fs.PathJoin(d.dir, upgradeFile)); err != nil {
		return fmt.Errorf("end upgrade: %w", err)
	}
	return syncDir(d.fs, d.dir)
}
