from nnunet_rw.cli import main

raise SystemExit(main())
