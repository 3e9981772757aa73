package control

// The operations of the API. Adding one here gives it to client and server.
var (
	InitFolder   = Op[InitRequest, Folder]{"init"}
	JoinFolder   = Op[JoinRequest, Folder]{"join"}
	UpFolder     = Op[UpRequest, Folder]{"up"}
	Invite       = Op[InviteRequest, Invitation]{"invite"}
	ListFolders  = Op[None, FolderList]{"list"}
	MountFolder  = Op[MountRequest, Folder]{"mount"}
	GoneFiles    = Op[GoneRequest, Gone]{"gone"}
	UmountFolder = Op[UmountRequest, Unmounted]{"umount"}
	LeaveFolder  = Op[LeaveRequest, None]{"leave"}
	GetStatus    = Op[StatusRequest, Status]{"status"}
	ListPeers    = Op[None, PeerList]{"peers"}
	GetID        = Op[None, Identity]{"id"}
	Wait         = Op[WaitRequest, None]{"wait"}
	CheckStore   = Op[None, CheckReport]{"check"}
	Checkpoint   = Op[CheckpointRequest, CheckpointMade]{"checkpoint"}
	GetVersion   = Op[None, Version]{"version"}
	Scrub        = Op[ScrubRequest, ScrubReport]{"scrub"}
	GetLacking   = Op[LackingRequest, Lacking]{"lacking"}
	Reload       = Op[None, Reloaded]{"reload"}
)

// Op is one operation: its name and the types of its request and its answer.
type Op[In, Out any] struct{ name string }

func (o Op[In, Out]) path() string { return "/v1/" + o.name }
