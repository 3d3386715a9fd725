from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="nnunet_rw",
    version="0.1.0",
    description="nnU-Net v2 with losses that see where a voxel lies and how large its lesion is",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    # Beside it no classifier: setuptools 77 and newer warn of that, and older ones take no license_expression.
    license="Apache-2.0",
    python_requires=">=3.10",
    # trainers/ stands at the top of the checkout, where nnU-Net users look for it, and installs inside the package.
    packages=[*find_packages(include=["nnunet_rw", "nnunet_rw.*"]), "nnunet_rw.trainers"],
    package_dir={"nnunet_rw.trainers": "trainers"},
    package_data={
        "nnunet_rw.benchmark.report": ["*.j2", "*.css", "*.js", "*.bib"],
    },
    install_requires=[
        # What is overridden of it is checked at start (nnunet_rw/training/compatibility.py), so 2.9 is not shut out.
        "nnunetv2>=2.8,<3",
        "batchgenerators>=0.25.1",
        # Carried distances of rotated and zoomed patches are wrong beyond the patch with older ones.
        "batchgeneratorsv2>=0.3.6",
        # In 2.9 3D convolutions are several times slower with mixed precision; nnU-Net refuses it too.
        "torch>=2.1.2,!=2.9.*",
        "numpy>=1.26",
        "scikit-image>=0.19",
        "scikit-learn>=1.2",
        "scipy>=1.10",
        "SimpleITK>=2.2",
        "blosc2>=3.3.2",
        "edt>=3.0",
        "connected-components-3d>=3.14",
        # Older ones wait for ever where the file system has no locks.
        "filelock>=3.24",
        "jinja2>=3.1",
        "markupsafe>=2.1",
        "matplotlib>=3.7",
        "nibabel>=5.0",
        "pillow>=9.1",
        "plotly>=6.0",
        "pooch>=1.7",
        "pydantic>=2.5",
        "pyyaml>=6.0",
        "requests>=2.28",
        "rich>=13",
        "submitit>=1.5",
        "tqdm",
        "typing-extensions>=4.6.1",
    ],
    extras_require={
        "dev": ["pytest>=8", "pytest-xdist>=3.5", "ruff>=0.6", "mypy>=1.11", "build", "monai>=1.4", "playwright>=1.40"]
    },
    entry_points={"console_scripts": ["nnunet-rw=nnunet_rw.cli:main"]},
    classifiers=[
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 15)),
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
